"""Slopes along straight paths: which points go into which call of a gradient, and how their slopes are summed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from explain.attribution import CONFIDENCE, Attributions
from explain.errors import GradientNotFinite
from explain.game import Rows

REPLICATES = 8
"""Independent repetitions of a whole sampled estimate; their scatter is its standard error."""

SHARING_PRICE = 1 / 3
"""What one more target adds to a call that computes several, in calls for one: they share the pass forward.

Measured on two cores: 3 targets take 1.3 to 1.9 times a call for one, 10 take 3 to 5.5 times.
"""


class Gradient(Protocol):
    """The gradient of one chosen output per row, in calls of a fixed number of rows.

    Called with rows `(slice_rows, *row_shape)` and target indices `(slice_rows,)`, it returns
    `(slice_rows, *row_shape)`. One that has an attribute `targets_together` above 1 also takes that many targets for
    each row, `(slice_rows, targets_together)`, and returns `(slice_rows, targets_together, *row_shape)`.
    """

    slice_rows: int

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.floating[Any]]: ...


def path_sums(
    gradient: Gradient,
    row: Rows,
    references: Rows,
    picks: NDArray[np.intp],
    positions: NDArray[np.float64],
    weights: NDArray[np.float64],
    targets: Sequence[int],
) -> NDArray[np.float64]:
    """Weighted sums of (row - reference) * gradient(reference + position * (row - reference)).

    Points are put through the network in slices of a fixed size, the last one filled up with its first point, and
    summed in float64 in their order. Memory is that of one slice.

    Args:
        row: `row_shape`.
        references: `(n_references, *row_shape)`, where paths begin.
        picks: `(n_groups, n_paths)`: the reference of each path.
        positions: `(n_groups, n_paths, n_positions)` in [0, 1].
        weights: as `positions`.

    Returns:
        `(n_groups, *row_shape, n_targets)`: a sum for each group.

    Raises:
        GradientNotFinite: when a slope is NaN or infinite.
    """
    n_groups, _, n_positions = positions.shape
    origins = np.repeat(picks.reshape(-1), n_positions)
    along, shares = positions.reshape(-1), weights.reshape(-1)
    groups = np.repeat(np.arange(n_groups), positions.size // n_groups)
    ones = (1,) * row.ndim
    sums = np.zeros((n_groups, len(targets), *row.shape))
    points = np.empty((gradient.slice_rows, *row.shape), dtype=np.float32)
    for start in range(0, positions.size, gradient.slice_rows):
        stop = min(start + gradient.slice_rows, positions.size)
        steps = row - references[origins[start:stop]]
        points[: stop - start] = row - (1 - along[start:stop]).reshape(-1, *ones) * steps
        points[stop - start :] = points[0]
        factors = steps * shares[start:stop].reshape(-1, *ones)
        first = np.flatnonzero(np.diff(groups[start:stop], prepend=-1))
        for place, slopes in slopes_of(gradient, points, targets):
            with np.errstate(invalid="ignore", over="ignore"):  # refused below, with a sentence
                terms = slopes[: stop - start] * factors
                sums[groups[start:stop][first], place] += np.add.reduceat(terms, first, axis=0)
    check_finite(sums, targets)
    return np.moveaxis(sums, 1, -1)


def slopes_of(gradient: Gradient, points: Rows, targets: Sequence[int]) -> list[tuple[int, NDArray[np.floating[Any]]]]:
    """The gradient of each target at the same points, as (place in `targets`, `(slice_rows, *row_shape)`)."""
    together = getattr(gradient, "targets_together", 1)
    found: list[tuple[int, NDArray[np.floating[Any]]]] = []
    for start in range(0, len(targets), together):
        chunk = list(targets[start : start + together])
        if len(chunk) > 1 + (together - 1) * SHARING_PRICE:
            filled = chunk + [chunk[-1]] * (together - len(chunk))
            slopes = gradient(points, np.tile(np.array(filled, np.int32), (len(points), 1)))
            found += [(start + place, slopes[:, place]) for place in range(len(chunk))]
        else:
            found += [
                (start + place, gradient(points, np.full(len(points), target, np.int32)))
                for place, target in enumerate(chunk)
            ]
    return found


def check_finite(sums: NDArray[np.float64], targets: Sequence[int]) -> None:
    """Refuses sums of slopes, `(n_groups, n_targets, *row_shape)`, that are NaN or infinite."""
    bad = np.asarray(~np.isfinite(sums).all(axis=0))
    for place, target in enumerate(targets):
        if bad[place].any():
            raise GradientNotFinite(target, int(bad[place].sum()), bad[place].size)


def replicate_errors(estimates: NDArray[np.float64], *, n_points: int) -> tuple[Attributions, Attributions]:
    """The standard errors of the mean of the replicates, and 95 % half-widths, both `(n_players, n_targets)`.

    NaN while each replicate has seen a single point: too little to say, and intervals would cover 87 % instead of 95.

    Args:
        estimates: `(REPLICATES, n_players, n_targets)`.
        n_points: that each replicate has seen.
    """
    errors = estimates.std(axis=0, ddof=1) / np.sqrt(REPLICATES)
    if n_points < 2:
        errors = np.full_like(errors, np.nan)
    return errors, student_t_quantile() * errors


def student_t_quantile() -> float:
    """The factor from a standard error over the replicates to a 95 % half-width."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, REPLICATES - 1))


def allowed_residuals(
    tolerance: float, scales: NDArray[np.float64], values: NDArray[np.float64], base_values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`(n_targets,)`: the largest residual within a tolerance: that part of S, but never less than float32 resolves.

    Of a row that equals its background S is 0, and the two outputs may differ in their last bits.
    """
    resolution = 4 * np.finfo(np.float32).eps * np.maximum(np.abs(values), np.abs(base_values))
    return np.maximum(tolerance * scales, resolution)
