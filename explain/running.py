"""How each method is run on one row: from one form of work to the estimators' own arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from explain import (
    backgrounds,
    cam,
    gradients,
    integrated,
    partition,
    permutation,
    perturbation,
    reference,
    regression,
    smoothing,
)
from explain.attribution import Estimate
from explain.cam import FeatureMaps
from explain.exact import exact
from explain.game import Game
from explain.hierarchy import Hierarchy
from explain.limits import Limits
from explain.paths import Gradient


def _no_model() -> Any:
    raise ValueError("This method needs a model, and the work has none. Run it where the Keras model is loaded.")


def _no_maps(_layer: str | None) -> FeatureMaps:
    return _no_model()


@dataclass(frozen=True)
class Work:
    """One row to explain.

    Attributes:
        targets: the outputs to explain.
        options: of the method, complete.
        gradient: gives the compiled gradient of the explained output.
        model: gives the Keras model `(n_rows, *row_shape)` to `(n_rows, n_targets)` of the explained output.
        maps: gives the compiled feature maps of its layer by that name, or of one that is found.
        hierarchy: gives who belongs together among the players.
    """

    game: Game
    targets: tuple[int, ...]
    seed: int
    limits: Limits
    slice_rows: int
    options: Mapping[str, Any] = field(default_factory=dict)
    gradient: Callable[[], Gradient] = _no_model
    model: Callable[[], Any] = _no_model
    maps: Callable[[str | None], FeatureMaps] = _no_maps
    hierarchy: Callable[[], Hierarchy | None] = lambda: None

    def chosen(self, *names: str) -> dict[str, Any]:
        """The options by these names, as far as they are there: those that an estimator takes as they are."""
        return {name: self.options[name] for name in names if name in self.options}


def run_exact(work: Work) -> Estimate:
    estimate = exact(work.game, slice_rows=work.slice_rows, **work.chosen("interactions"))
    return of_targets(estimate, work.targets)


def run_kernel(work: Work) -> Estimate:
    return regression.kernel(
        work.game,
        work.targets,
        seed=work.seed,
        limits=work.limits,
        slice_rows=work.slice_rows,
        **work.chosen("interactions"),
    )


def run_permutation(work: Work) -> Estimate:
    return permutation.permutation(
        work.game, work.targets, seed=work.seed, limits=work.limits, slice_rows=work.slice_rows
    )


def run_partition(work: Work) -> Estimate:
    return partition.partition(
        work.game,
        work.targets,
        seed=work.seed,
        limits=work.limits,
        slice_rows=work.slice_rows,
        hierarchy=work.hierarchy(),
    )


def run_expected_gradients(work: Work) -> Estimate:
    return gradients.expected_gradients(work.game, work.gradient(), work.targets, seed=work.seed, limits=work.limits)


def run_integrated_gradients(work: Work) -> Estimate:
    game = work.game
    reference = backgrounds.named_background(work.options["baseline"], game.row, game.background, game.evaluate)
    return integrated.integrated_gradients(
        game, work.gradient(), work.targets, baseline=reference.rows[0], limits=work.limits
    )


def run_smooth_grad(work: Work) -> Estimate:
    return smoothing.smooth_grad(
        work.game, work.gradient(), work.targets, seed=work.seed, limits=work.limits, **work.chosen("noise")
    )


def run_grad_cam(work: Work) -> Estimate:
    return _of_layer(cam.grad_cam, work)


def run_grad_cam_plus_plus(work: Work) -> Estimate:
    return _of_layer(cam.grad_cam_plus_plus, work)


def run_layer_cam(work: Work) -> Estimate:
    return _of_layer(cam.layer_cam, work)


def _of_layer(method: Callable[..., Estimate], work: Work) -> Estimate:
    maps = work.maps(work.options.get("layer"))
    return replace(method(work.game, maps, work.targets, limits=work.limits), layer=maps.layer)


def run_occlusion(work: Work) -> Estimate:
    return perturbation.occlusion(
        work.game,
        work.targets,
        limits=work.limits,
        slice_rows=work.slice_rows,
        **work.chosen("window", "stride", "baseline"),
    )


def run_rise(work: Work) -> Estimate:
    return perturbation.rise(
        work.game,
        work.targets,
        seed=work.seed,
        limits=work.limits,
        slice_rows=work.slice_rows,
        **work.chosen("cells", "baseline"),
    )


def run_reference(method: str, work: Work) -> Estimate:
    """One of shap's own explainers. It knows no deadline; a replay has the budget of the run that it repeats."""
    game = work.game
    order = reference.ReferenceOrder(
        method,
        model=work.model,
        row=game.row,
        background=game.background.rows,
        weights=game.background.weights,
        players=game.players,
        targets=work.targets,
        seed=work.seed,
        budget=work.limits.budget,
        hierarchy=work.hierarchy() if method == "shap.partition" else None,
    )
    return reference.explain_with_shap(order)


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
        interactions=None
        if estimate.interactions is None
        else replace(
            estimate.interactions,
            values=estimate.interactions.values[:, chosen],
            standard_errors=estimate.interactions.standard_errors[:, chosen],
        ),
    )
