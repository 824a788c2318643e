"""How each method is run on one row: from one form of work to the estimators' own arguments.

Estimators that need heavy libraries are imported when they are first run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from explain import gradients, regression
from explain.attribution import Estimate
from explain.exact import exact
from explain.game import Game
from explain.gradients import Gradient
from explain.limits import Limits


def _no_model() -> Any:
    raise ValueError("This method needs a model, and the work has none. Run it where the Keras model is loaded.")


@dataclass(frozen=True)
class Work:
    """One row to explain.

    Attributes:
        targets: the outputs to explain.
        options: of the method, complete.
        gradient: gives the compiled gradient of the explained output.
        model: gives the Keras model `(n_rows, *row_shape)` to `(n_rows, n_targets)` of the explained output.
    """

    game: Game
    targets: tuple[int, ...]
    seed: int
    limits: Limits
    slice_rows: int
    options: Mapping[str, Any] = field(default_factory=dict)
    gradient: Callable[[], Gradient] = _no_model
    model: Callable[[], Any] = _no_model


def run_exact(work: Work) -> Estimate:
    return of_targets(exact(work.game, slice_rows=work.slice_rows), work.targets)


def run_kernel(work: Work) -> Estimate:
    return regression.kernel(
        work.game, work.targets, seed=work.seed, limits=work.limits, slice_rows=work.slice_rows, **work.options
    )


def run_expected_gradients(work: Work) -> Estimate:
    return gradients.expected_gradients(
        work.game, work.gradient(), work.targets, seed=work.seed, limits=work.limits, **work.options
    )


def of_targets(estimate: Estimate, targets: tuple[int, ...]) -> Estimate:
    """The columns of an estimate over all outputs that were asked for."""
    chosen = list(targets)
    return replace(
        estimate,
        attributions=estimate.attributions[:, chosen],
        standard_errors=estimate.standard_errors[:, chosen],
        half_widths=estimate.half_widths[:, chosen],
        values=estimate.values[chosen],
        base_values=estimate.base_values[chosen],
        scales=estimate.scales[chosen],
    )
