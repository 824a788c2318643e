"""Slopes along straight paths: which points go into which call of a gradient, and how their slopes are summed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Attributions, student_t_quantile
from explain.errors import GradientNotFinite
from explain.game import Rows

REPLICATES = 8
"""Independent repetitions of a whole sampled estimate; their scatter is its standard error."""


class Gradient(Protocol):
    """The gradient of one chosen output per row, in calls of at most `slice_rows` rows.

    Called with rows `(n_rows, *row_shape)` and target indices `(n_rows,)`, it returns `(n_rows, *row_shape)`. A row's
    slopes depend on how many rows the call has at most: those of a call of so many rows are always the same bits. An
    engine for which that needs a fixed number of rows fills its calls up by itself.

    One that has an attribute `targets_together` above 1 also takes up to that many targets for each row,
    `(n_rows, n_targets)`, and returns `(n_rows, n_targets, *row_shape)`.
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

    Points are put through the network in slices of a fixed size, of which the last one can be smaller, and summed in
    float64 in their order. Memory is that of one slice.

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
    for start in range(0, positions.size, gradient.slice_rows):
        stop = min(start + gradient.slice_rows, positions.size)
        steps = row - references[origins[start:stop]]
        points = np.asarray(row - (1 - along[start:stop]).reshape(-1, *ones) * steps, dtype=np.float32)
        factors = steps * shares[start:stop].reshape(-1, *ones)
        first = np.flatnonzero(np.diff(groups[start:stop], prepend=-1))
        for place, slopes in slopes_of(gradient, points, targets):
            with np.errstate(invalid="ignore", over="ignore"):  # refused below, with a sentence
                terms = slopes * factors
                sums[groups[start:stop][first], place] += np.add.reduceat(terms, first, axis=0)
    check_finite(sums, targets)
    return np.moveaxis(sums, 1, -1)


def slopes_of(gradient: Gradient, points: Rows, targets: Sequence[int]) -> list[tuple[int, NDArray[np.floating[Any]]]]:
    """The gradient of each target at the same points, as (place in `targets`, `(n_points, *row_shape)`)."""
    together = getattr(gradient, "targets_together", 1)
    found: list[tuple[int, NDArray[np.floating[Any]]]] = []
    for start in range(0, len(targets), together):
        chunk = np.array(targets[start : start + together], np.int32)
        if len(chunk) == 1:
            found.append((start, gradient(points, np.full(len(points), chunk[0], np.int32))))
        else:
            slopes = gradient(points, np.tile(chunk, (len(points), 1)))
            found += [(start + place, slopes[:, place]) for place in range(len(chunk))]
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
    return errors, student_t_quantile(REPLICATES - 1) * errors


def allowed_residuals(
    tolerance: float, scales: NDArray[np.float64], values: NDArray[np.float64], base_values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`(n_targets,)`: the largest residual within a tolerance: that part of S, but never less than float32 resolves.

    Of a row that equals its background S is 0, and the two outputs may differ in their last bits.
    """
    resolution = 4 * np.finfo(np.float32).eps * np.maximum(np.abs(values), np.abs(base_values))
    return np.maximum(tolerance * scales, resolution)
