"""Attributions along the straight path from one named row: integrated gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall, MethodDoesNotFit
from explain.game import Background, Game, Rows
from explain.limits import Limits
from explain.paths import Gradient, allowed_residuals, path_sums

FEWEST_NODES, PANEL_NODES = 16, 64
"""A rule begins with at least so many nodes, and is divided into panels of 64 nodes when it has more."""
BASELINES = ("mean", "zero")
"""Baselines that every kind of row has; images have more."""


def named_baseline(background: Background, name: str) -> Rows:
    """The row `row_shape` where the path begins: the weighted mean of the background, or zeros.

    Raises:
        MethodDoesNotFit: when there is no such baseline.
    """
    if name == "zero":
        return np.zeros_like(background.rows[0])
    if name == "mean":
        return np.einsum("b,b...->...", background.weights, background.rows.astype(np.float64)).astype(np.float32)
    reason = f"baseline {name!r} is none of {', '.join(BASELINES)}"
    raise MethodDoesNotFit("integrated-gradients", reason, ["integrated-gradients", "expected-gradients"])


def integrated_gradients(
    game: Game, gradient: Gradient, targets: Sequence[int], *, baseline: Rows, limits: Limits
) -> Estimate:
    """Integrated gradients: (x - b) times the integral over a in [0, 1] of df/dx(b + a (x - b)), b the baseline.

    Sundararajan et al. 2017, "Axiomatic attribution for deep networks", eq. 1, by Gauss-Legendre quadrature. The first
    rule has as many nodes as a call of the gradient takes, from 16 to 64. Where its residual, the sum of attributions
    minus (value - base value), is above the tolerance, one with twice the nodes follows, in panels of 64: networks
    with kinks need many nodes, smooth ones few. Nothing is random, so that there is no seed, and standard errors are
    NaN; the residual tells what the nodes missed of the sum, and is never spread over the attributions.

    The base value is the output **at the baseline**, not the mean over the background, and S is
    max(|value - base value|, spread).

    Args:
        targets: the outputs to explain. Where the gradient allows, they share the passes forward.
        baseline: `row_shape`; see `named_baseline`.

    Returns:
        An `Estimate` over the asked targets.

    Raises:
        BudgetTooSmall: when the budget does not cover the first rule.
        GradientNotFinite: when a slope is NaN or infinite.
    """
    chosen = list(targets)
    values = game.value[chosen]
    base_values = np.asarray(game.evaluate(baseline[np.newaxis]), dtype=np.float64)[0][chosen]
    scales = np.maximum(np.abs(values - base_values), game.background.spreads[chosen])
    allowed = allowed_residuals(limits.tolerance, scales, values, base_values)
    n_nodes, evaluations = _first_nodes(gradient, len(chosen), limits.budget), 0
    while True:
        positions, weights = gauss_legendre(n_nodes)
        elements = path_sums(
            gradient,
            game.row,
            baseline[np.newaxis],
            np.zeros((1, 1), dtype=np.intp),
            positions.reshape(1, 1, -1),
            weights.reshape(1, 1, -1),
            chosen,
        )
        attributions = game.sum_to_players(np.moveaxis(elements[0], -1, 0)).T
        evaluations += n_nodes * len(chosen)
        residuals = np.abs(attributions.sum(axis=0) - (values - base_values))
        stop = limits.stop_reason(
            within=bool((residuals <= allowed).all()),
            evaluations=evaluations,
            next_round=2 * n_nodes * len(chosen),
        )
        if stop is not None:
            break
        n_nodes *= 2
    unknown = np.full_like(attributions, np.nan)
    return Estimate(
        method="integrated-gradients",
        estimand="aumann-shapley",
        attributions=attributions,
        standard_errors=unknown,
        half_widths=unknown,
        values=values,
        base_values=base_values,
        scales=scales,
        evaluations=evaluations,
        stop_reason=stop,
    )


def gauss_legendre(n_nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions in [0, 1] and weights, both `(n_nodes,)`: one rule up to 64 nodes, beyond in equal panels of 64."""
    n_panels = max(n_nodes // PANEL_NODES, 1)
    nodes, weights = _one_rule(n_nodes // n_panels)
    positions = (np.arange(n_panels)[:, np.newaxis] + nodes) / n_panels
    return positions.reshape(-1), np.tile(weights / n_panels, n_panels)


@lru_cache(maxsize=8)
def _one_rule(n_nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return (nodes + 1) / 2, weights / 2


def _first_nodes(gradient: Gradient, n_targets: int, budget: int | None) -> int:
    nodes = FEWEST_NODES
    while 2 * nodes <= min(gradient.slice_rows, PANEL_NODES) and (budget is None or 2 * nodes * n_targets <= budget):
        nodes *= 2
    if budget is not None and nodes * n_targets > budget:
        raise BudgetTooSmall("integrated-gradients", nodes * n_targets, budget)
    return nodes
