"""Saliency from gradients around a row: smooth-grad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall
from explain.game import Background, Game, Rows
from explain.limits import Limits
from explain.paths import REPLICATES, Gradient, check_finite, replicate_errors, slopes_of

NOISE = 0.15
"""Of a feature's spread; Smilkov et al. found 0.1 to 0.2 of an image's range to be best."""


def smooth_grad(
    game: Game, gradient: Gradient, targets: Sequence[int], *, seed: int, limits: Limits, noise: float = NOISE
) -> Estimate:
    """SmoothGrad: the mean gradient over rows with normal noise around the explained one.

    Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise". The noise of an element has the standard
    deviation `noise` x its spread over the background; an element that never varies gets none. Values are slopes: units
    of the output per unit of the input, with their sign. They claim no axioms and do not add up to anything.

    Noise comes in pairs of opposite sign, in eight independent replicates whose scatter is the standard error;
    half-widths use Student's t with 7 degrees of freedom. Each round doubles the pairs. The tolerance is a part of the
    largest slope, which is also the `scales` of the estimate: a slope has no part in value - base value.

    Args:
        targets: the outputs to explain. Where the gradient allows, they share the passes forward.
        seed: the same seed, game and number of evaluations give the same bits; a longer run begins with a shorter one.
        noise: 0 or more.

    Raises:
        BudgetTooSmall: when the budget does not cover one pair per replicate and target.
        GradientNotFinite: when a slope is NaN or infinite.
    """
    rng = np.random.default_rng(seed)
    chosen = list(targets)
    pairs = pairs_per_slice = max(gradient.slice_rows // (2 * REPLICATES), 1)
    least = 2 * REPLICATES * len(chosen)
    if limits.budget is not None:
        if limits.budget < least:
            raise BudgetTooSmall("smooth-grad", least, limits.budget)
        pairs = min(pairs, limits.budget // least)
    deviations = (noise * element_spreads(game.background)).astype(np.float32)
    sums, drawn = np.zeros((REPLICATES, game.n_players, len(chosen))), 0
    while True:
        for start in range(0, pairs, pairs_per_slice):
            shape = (min(pairs_per_slice, pairs - start), 1, REPLICATES, *game.row.shape)
            half = rng.standard_normal(shape, dtype=np.float32) * deviations
            noisy = np.asarray(game.row + np.concatenate([half, -half], axis=1), dtype=np.float32)
            sums += _slope_sums(game, gradient, noisy, chosen)
        drawn += pairs
        estimates = sums / (2 * drawn)
        attributions = estimates.mean(axis=0)
        errors, half_widths = replicate_errors(estimates, n_points=2 * drawn)
        scales = np.abs(attributions).max(axis=0)
        stop = limits.stop_reason(
            within=bool((half_widths.max(axis=0) <= limits.tolerance * scales).all()),
            evaluations=least * drawn,
            next_round=least * drawn,
        )
        if stop is not None:
            break
        pairs = drawn
    return Estimate(
        method="smooth-grad",
        estimand="saliency",
        attributions=attributions,
        standard_errors=errors,
        half_widths=half_widths,
        values=game.value[chosen],
        base_values=game.background.base_values[chosen],
        scales=scales,
        evaluations=least * drawn,
        stop_reason=stop,
    )


def element_spreads(background: Background) -> NDArray[np.float64]:
    """`row_shape`: the weighted standard deviation of each element over the background."""
    rows = background.rows.astype(np.float64)
    means = np.einsum("b,b...->...", background.weights, rows)
    return np.sqrt(np.einsum("b,b...->...", background.weights, (rows - means) ** 2))


def _slope_sums(game: Game, gradient: Gradient, points: Rows, targets: list[int]) -> NDArray[np.float64]:
    """Sums of slopes at `points`, `(n_pairs, 2, REPLICATES, *row_shape)`: `(REPLICATES, n_players, n_targets)`."""
    flat = points.reshape(-1, *game.row.shape)
    sums = np.zeros((REPLICATES, len(targets), *game.row.shape))
    for start in range(0, len(flat), gradient.slice_rows):
        part = flat[start : start + gradient.slice_rows]
        replicates = np.arange(start, start + len(part)) % REPLICATES
        for place, slopes in slopes_of(gradient, part, targets):
            with np.errstate(invalid="ignore", over="ignore"):  # refused below, with a sentence
                np.add.at(sums[:, place], replicates, slopes.astype(np.float64))
    check_finite(sums, targets)
    return np.stack([game.sum_to_players(sums[:, place]) for place in range(len(targets))], axis=-1)
