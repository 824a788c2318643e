"""Saliency from changed inputs: what the output loses without a window (`occlusion`) or under random masks (`rise`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Attributions, Estimate, student_t_quantile
from explain.errors import BudgetTooSmall, MethodDoesNotFit, NotFinite, OptionNotUsable
from explain.game import Game, Rows
from explain.limits import Limits
from explain.positions import PositionPlayers, Shape, position_shape

Baseline = float | Literal["mean", "sample"]
"""What replaces a value: the background's weighted mean, each of its rows in turn, or one number everywhere."""
Window = int | Sequence[int]
"""Positions along every axis, or along each."""

LEAST_PAIRS = 32
"""Pairs of masks below which `rise` answers nothing: its errors would follow the luck of the draw."""
GROWTH = 1.25
"""How much longer a run of `rise` is after each round."""


def occlusion(
    game: Game,
    targets: Sequence[int],
    *,
    limits: Limits,
    slice_rows: int,
    window: Window | None = None,
    stride: Window | None = None,
    baseline: Baseline = "mean",
) -> Estimate:
    """Occlusion: what the output loses when a window of the row is replaced (Zeiler and Fergus 2014, section 4.2).

    What a window's loss is, is divided evenly over its elements; where windows overlap, an element gets the mean over
    those that cover it; a player gets the sum over its elements. The last window of an axis ends where the axis ends.
    Without a window, players are replaced one at a time and each gets its loss, except where they are single
    positions of an image or a series: then windows of a quarter of each axis move by half a window. A window that
    equals what replaces it costs nothing.

    On a linear model, players one at a time, the attributions are w (x - mean), the Shapley values.

    Args:
        targets: the outputs to explain. They share all evaluations.
        limits: only the budget counts: nothing is sampled, and all windows are needed.
        slice_rows: the most rows in one call of the model.
        window: positions of a window along each axis before the channels.
        stride: positions from one window to the next; at most the window, so that none is left out. Half a window
            without it.
        baseline: "mean" of the background (one row evaluated for each window), "sample" (one for each background row;
            the loss is then v(all) - v(all but the window)), or a number in the row's units.

    Returns:
        An `Estimate` of the estimand "saliency", which claims no axioms. Nothing is sampled: its errors are NaN.

    Raises:
        BudgetTooSmall: when the budget does not cover every window.
        OptionNotUsable: when a window, a stride or a baseline does not fit the row.
        NotFinite: when the model's answer is NaN or infinity.
    """
    chosen = list(targets)
    references, weights = _references("occlusion", game, baseline)
    patches, by_player = _patches(game, window, stride)
    explained = game.row.reshape(-1)
    # Where patch and reference are the same, nothing is lost and nothing is evaluated.
    differs = references != explained
    lacking = [(p, r) for p, patch in enumerate(patches) for r in np.flatnonzero(differs[:, patch].any(axis=1))]
    if limits.budget is not None and len(lacking) > limits.budget:
        raise BudgetTooSmall("occlusion", len(lacking), limits.budget)
    value = _finite("occlusion", game.value)[chosen]
    losses = np.zeros((len(patches), len(chosen)))
    for start in range(0, len(lacking), slice_rows):
        part = lacking[start : start + slice_rows]
        rows = np.tile(explained, (len(part), 1))
        for row, (p, r) in zip(rows, part, strict=True):
            row[patches[p]] = references[r, patches[p]]
        outputs = _finite("occlusion", game.evaluate(rows.reshape(-1, *game.row.shape)))[:, chosen]
        for (p, r), output in zip(part, outputs, strict=True):
            losses[p] += weights[r] * (value - output)
    attributions = losses if by_player else _averaged(game, patches, losses)
    nothing_sampled = np.full_like(attributions, np.nan)
    return Estimate(
        method="occlusion",
        estimand="saliency",
        attributions=attributions,
        standard_errors=nothing_sampled,
        half_widths=nothing_sampled,
        values=value,
        base_values=game.background.base_values[chosen],
        scales=game.scales[chosen],
        evaluations=len(lacking),
        stop_reason="closed-form",
    )


def rise(
    game: Game,
    targets: Sequence[int],
    *,
    seed: int,
    limits: Limits,
    slice_rows: int,
    cells: Window = 7,
    baseline: float | Literal["mean"] = "mean",
) -> Estimate:
    """RISE: how much higher the output is where a position is kept than on average, over random masks.

    Petsiuk et al. 2018, "RISE: randomized input sampling for explanation of black-box models", eq. 6, less its mean:
    E[f(M) M(p)] / E[M(p)] - E[f(M)]. A mask is a grid of fair coin flips one cell apart, interpolated linearly along
    each axis and shifted by up to a cell, so that E[M(p)] is exactly 1/2 everywhere; f(M) is the output for
    M x + (1 - M) baseline. Every mask comes with its complement, which has the same distribution: the pair's mean is
    (f(M) - f(1 - M)) (M(p) - 1/2), an unbiased estimate from which everything that the two masks share has gone.

    A position's value is divided evenly over its channels; a player gets the sum over what it owns. Neighbours share
    masks, so the map is as coarse as the cells. The standard error is that of the mean over the pairs; half-widths
    use Student's t.

    Args:
        targets: the outputs to explain. They share all evaluations.
        seed: the same seed, game and number of evaluations give the same bits; a longer run begins with the pairs of
            a shorter one.
        slice_rows: the most rows in one call of the model.
        cells: of the grid along each axis before the channels; one number is cut down to an axis that is shorter. Cells
            are of whole positions, so that there may be fewer.
        baseline: what a masked position becomes: the background's weighted mean, or a number in the row's units.

    Returns:
        An `Estimate` of the estimand "saliency", which claims no axioms.

    Raises:
        MethodDoesNotFit: when the row has no positions beside one another: columns, tokens.
        BudgetTooSmall: when the budget does not cover 32 pairs.
        OptionNotUsable: when cells or baseline do not fit the row.
        NotFinite: when the model's answer is NaN or infinity.
    """
    if game.row.ndim == 1:
        reason = "the values of a row of columns or tokens cannot be masked in part"
        raise MethodDoesNotFit("rise", reason, ("occlusion", "exact", "kernel"))
    if baseline == "sample":
        raise OptionNotUsable("rise", "baseline", '"mean" or a number', baseline)
    chosen = list(targets)
    (reference, *_), _ = _references("rise", game, baseline)
    value = _finite("rise", game.value)[chosen]
    scales = game.scales[chosen]
    masks = _MaskStream(position_shape(game.row.shape), cells, np.random.default_rng(seed))
    players = PositionPlayers(game)
    n_pairs, wanted = 0, _pairs_after(0, slice_rows, limits.budget)
    sums = np.zeros((2, game.n_players, len(chosen)))
    while True:
        for n_masks in _slices(wanted - n_pairs, max(slice_rows // 2, 1)):
            kept = masks.take(n_masks)
            deviations = players.sum(kept.reshape(n_masks, -1).astype(np.float64) - 0.5)
            rows = _mixed(game.row, reference.reshape(game.row.shape), np.concatenate([kept, 1 - kept]))
            # Masks are of float64; an engine takes rows of the type of the row alone.
            outputs = _finite("rise", game.evaluate(rows.astype(game.row.dtype)))[:, chosen]
            differences = outputs[:n_masks] - outputs[n_masks:]
            # einsum, not a BLAS product: its order of summation does not depend on threads.
            sums[0] += np.einsum("mp,mt->pt", deviations, differences)
            sums[1] += np.einsum("mp,mt->pt", deviations**2, differences**2)
        n_pairs = wanted
        means = sums[0] / n_pairs
        errors = np.sqrt(np.maximum(sums[1] / n_pairs - means**2, 0) / (n_pairs - 1))
        half_widths = student_t_quantile(n_pairs - 1) * errors
        wanted = _pairs_after(n_pairs, slice_rows, limits.budget)
        stop = limits.stop_reason(
            within=bool((half_widths <= limits.tolerance * scales).all()),
            evaluations=2 * n_pairs,
            next_round=2 * max(wanted - n_pairs, 1),
        )
        if stop is not None:
            break
    return Estimate(
        method="rise",
        estimand="saliency",
        attributions=means,
        standard_errors=errors,
        half_widths=half_widths,
        values=value,
        base_values=game.background.base_values[chosen],
        scales=scales,
        evaluations=2 * n_pairs,
        stop_reason=stop,
    )


def _patches(game: Game, window: Window | None, stride: Window | None) -> tuple[list[NDArray[np.intp]], bool]:
    """The elements that are replaced together, and whether each patch is a player."""
    shape = position_shape(game.row.shape)
    single = game.row.ndim > 1 and PositionPlayers(game).one_to_one
    if window is None and stride is None and not single:
        order = np.argsort(game.players, axis=None, kind="stable")
        starts = np.searchsorted(game.players.reshape(-1)[order], np.arange(1, game.n_players))
        return np.split(order, starts), True
    quarter = [math.ceil(length / 4) for length in shape]
    widths = quarter if window is None else _along_axes("occlusion", "window", window, shape)
    half = [math.ceil(width / 2) for width in widths]
    steps = half if stride is None else _along_axes("occlusion", "stride", stride, tuple(widths))
    elements = np.arange(game.row.size).reshape(*shape, -1)
    starts_along = [
        sorted({*range(0, length - width, step), length - width})
        for length, width, step in zip(shape, widths, steps, strict=True)
    ]
    corners = product(*starts_along)
    boxes = [tuple(slice(a, a + width) for a, width in zip(corner, widths, strict=True)) for corner in corners]
    return [elements[box].reshape(-1) for box in boxes], False


def _averaged(game: Game, patches: list[NDArray[np.intp]], losses: Attributions) -> Attributions:
    sums, covers = np.zeros((game.row.size, losses.shape[1])), np.zeros((game.row.size, 1))
    for patch, loss in zip(patches, losses, strict=True):
        sums[patch] += loss / len(patch)
        covers[patch] += 1
    return game.sum_to_players((sums / covers).T.reshape(-1, *game.row.shape)).T


def _references(method: str, game: Game, baseline: Baseline) -> tuple[Rows, NDArray[np.float64]]:
    """What replaces the row's elements, `(n_references, n_elements)`, and the references' weights."""
    rows, weights = game.background.rows.reshape(-1, game.row.size), game.background.weights
    if baseline == "sample":
        return rows, weights
    if baseline == "mean":
        mean = np.einsum("b,be->e", weights, rows.astype(np.float64)).astype(np.float32)
        # A mean of equal values may round to another: what does not vary stays what it is.
        return np.where((rows == rows[0]).all(axis=0), rows[0], mean)[np.newaxis], np.ones(1)
    if isinstance(baseline, str) or not math.isfinite(baseline):
        raise OptionNotUsable(method, "baseline", '"mean", "sample" (of occlusion) or a number', baseline)
    return np.full((1, game.row.size), baseline, dtype=np.float32), np.ones(1)


def _along_axes(method: str, option: str, size: Window, shape: Shape) -> list[int]:
    """One size for each axis of positions, from 1 to its length."""
    sizes = [size] * len(shape) if isinstance(size, int) else list(size)
    if len(sizes) != len(shape) or not all(1 <= n <= length for n, length in zip(sizes, shape, strict=True)):
        raise OptionNotUsable(method, option, f"1 to {' x '.join(map(str, shape))} positions along the axes", size)
    return sizes


def _finite(method: str, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
    if not np.isfinite(outputs).all():
        raise NotFinite(method, "the model's answer")
    return outputs.astype(np.float64)


def _mixed(row: Rows, reference: Rows, kept: NDArray[np.float32]) -> Rows:
    """`(n_masks, *row_shape)`: the row where a mask is 1, the reference where it is 0, between them in between."""
    parts = kept[..., np.newaxis]
    return parts * row + np.subtract(1, parts, dtype=np.float32) * reference


def _pairs_after(n_pairs: int, slice_rows: int, budget: int | None) -> int:
    """How many pairs a run has after its next round. Rounds fill their slices, where the budget allows it."""
    if budget is not None and budget < 2 * LEAST_PAIRS:
        raise BudgetTooSmall("rise", 2 * LEAST_PAIRS, budget)
    per_slice = max(slice_rows // 2, 1)
    filled = -(-max(LEAST_PAIRS, int(n_pairs * GROWTH) + 1) // per_slice) * per_slice
    return filled if budget is None else min(filled, budget // 2)


def _slices(n_pairs: int, per_slice: int) -> Iterator[int]:
    for start in range(0, n_pairs, per_slice):
        yield min(per_slice, n_pairs - start)


class _MaskStream:
    """Random masks over positions; what has been drawn does not depend on how many are taken at a time."""

    def __init__(self, shape: Shape, cells: Window, rng: np.random.Generator) -> None:
        self._shape, self._rng = shape, rng
        if isinstance(cells, int):
            cells = [min(cells, length) for length in shape]
        per_axis = _along_axes("rise", "cells", cells, shape)
        self._sizes = [-(-length // n) for length, n in zip(shape, per_axis, strict=True)]
        # A shifted axis reaches from its first grid point to the one after its last position.
        self._grid = [(length + size - 2) // size + 2 for length, size in zip(shape, self._sizes, strict=True)]

    def take(self, n_masks: int) -> NDArray[np.float32]:
        """`(n_masks, *shape)`, from 0 (replaced) to 1 (kept)."""
        n_axes = len(self._shape)
        uniforms = self._rng.random((n_masks, n_axes + math.prod(self._grid)))
        masks = (uniforms[:, n_axes:] < 0.5).astype(np.float32).reshape(n_masks, *self._grid)
        for axis, (length, size) in enumerate(zip(self._shape, self._sizes, strict=True)):
            places = np.arange(length) + np.floor(uniforms[:, [axis]] * size).astype(np.intp)
            along = [n_masks if i == 0 else length if i == axis + 1 else 1 for i in range(n_axes + 1)]
            point = (places // size).reshape(along)
            part = np.divide(places % size, size, dtype=np.float32).reshape(along)
            before, after = (np.take_along_axis(masks, point + i, axis=axis + 1) for i in (0, 1))
            masks = np.subtract(1, part, dtype=np.float32) * before + part * after
        return masks
