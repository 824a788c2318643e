"""Attributions from gradients along straight paths: expected gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from explain.attribution import CONFIDENCE, Estimate
from explain.errors import BudgetTooSmall
from explain.game import Game, Rows
from explain.limits import Limits

REPLICATES = 8
"""Independent repetitions of the whole estimate; their scatter is its standard error."""


class Gradient(Protocol):
    """The gradient of one chosen output per row, in calls of a fixed number of rows.

    Called with rows `(slice_rows, *row_shape)` and target indices `(slice_rows,)`, it returns
    `(slice_rows, *row_shape)`.
    """

    slice_rows: int

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.floating[Any]]: ...


class KerasGradient:
    """Gradients of a Keras model, compiled once for one slice size.

    Args:
        model: maps `(n_rows, *row_shape)` to `(n_rows, n_targets)`.
        slice_rows: rows of every call.

    XLA is used for networks without convolutions on a CPU and for every network on a GPU: on a CPU oneDNN's
    convolution gradients are faster than XLA's (42 against 60 microseconds a row on an 8 x 8 digits network).
    """

    def __init__(self, model: Any, slice_rows: int) -> None:
        import keras
        import tensorflow as tf

        self.slice_rows = slice_rows
        convolves = any("conv" in type(layer).__name__.lower() for layer in model._flatten_layers())
        on_gpu = bool(tf.config.list_logical_devices("GPU"))
        self.device = "gpu" if on_gpu else "cpu"
        shape = keras.tree.flatten(model.input)[0].shape[1:]
        signature = [tf.TensorSpec((slice_rows, *shape), tf.float32), tf.TensorSpec((slice_rows,), tf.int32)]

        @tf.function(input_signature=signature, jit_compile=on_gpu or not convolves)
        def gradient(rows: Any, targets: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(rows)
                chosen = tf.gather(model(rows, training=False), targets, batch_dims=1)
            return tape.gradient(chosen, rows)

        self._gradient = gradient
        self(np.zeros((slice_rows, *shape), np.float32), np.zeros(slice_rows, np.int32))

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.floating[Any]]:
        return self._gradient(rows, targets).numpy()


def expected_gradients(
    game: Game, gradient: Gradient, targets: Sequence[int], *, seed: int, limits: Limits
) -> Estimate:
    """Expected gradients: the mean over background rows b and path positions a of (x - b) * df/dx(b + a (x - b)).

    Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients", eq. 4. The sum over the background is taken in full, with its weights; only path positions are drawn.
    Eight independent replicates each draw one position per background row, stratified over the rows, and refine them
    by nested stratification (a randomized van der Corput sequence; Owen 1995): each round fills the empty half-strata
    and doubles the positions. The standard error is that of the mean of the replicates; half-widths use Student's t
    with 7 degrees of freedom.

    With a budget below 8 positions per background row, each replicate takes a systematic sample of the background.

    Args:
        targets: the outputs to explain.
        seed: the same seed, game and number of evaluations give the same bits.

    Returns:
        An `Estimate` over the asked targets. The residual is reported, never spread over the attributions.

    Raises:
        BudgetTooSmall: when the budget does not cover one position per replicate and target.
    """
    rng = np.random.default_rng(seed)
    background = game.background
    chosen, weights = _reference_rows(background.weights, len(targets), limits.budget, rng)
    n_references = chosen.shape[1]
    strata = rng.permuted(np.tile(np.arange(n_references), (REPLICATES, 1)), axis=1)
    positions = ((strata + rng.random(strata.shape)) / n_references)[..., np.newaxis]
    fresh = positions
    sums = np.zeros((REPLICATES, game.n_players, len(targets)))
    scales = game.scales[list(targets)]
    wanted = (game.value - background.base_values)[list(targets)]
    evaluations = 0
    while True:
        for t, target in enumerate(targets):
            sums[:, :, t] += _path_sums(game, gradient, target, chosen, weights, fresh)
        evaluations += fresh.size * len(targets)
        estimates = sums / positions.shape[2]
        attributions = estimates.mean(axis=0)
        errors = estimates.std(axis=0, ddof=1) / np.sqrt(REPLICATES)
        half_widths = student_t_quantile() * errors
        residuals = np.abs(attributions.sum(axis=0) - wanted)
        within = np.maximum(half_widths.max(axis=0), residuals) <= limits.tolerance * scales
        stop = limits.stop_reason(
            within=bool(within.all()), evaluations=evaluations, next_round=positions.size * len(targets)
        )
        if stop is not None:
            break
        fresh = refine(positions, rng)
        positions = np.concatenate([positions, fresh], axis=2)
    return Estimate(
        method="expected-gradients",
        estimand="aumann-shapley",
        attributions=attributions,
        standard_errors=errors,
        half_widths=half_widths,
        values=game.value[list(targets)],
        base_values=background.base_values[list(targets)],
        scales=scales,
        evaluations=evaluations,
        stop_reason=stop,
    )


def refine(positions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """One new position in each empty half of the strata that hold one each.

    Args:
        positions: `(..., m)` in [0, 1), one in each of m equal strata.

    Returns:
        `(..., m)`, so that the old and new ones together hold one in each of 2 m equal strata.
    """
    n_strata = positions.shape[-1]
    halves = np.floor(positions * 2 * n_strata).astype(np.int64)
    return np.minimum(((halves ^ 1) + rng.random(positions.shape)) / (2 * n_strata), np.nextafter(1.0, 0.0))


def student_t_quantile() -> float:
    """The factor from a standard error over the replicates to a 95 % half-width."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, REPLICATES - 1))


def _reference_rows(
    weights: NDArray[np.float64], n_targets: int, budget: int | None, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which background rows each replicate takes, and their weights, both `(REPLICATES, n_references)`."""
    affordable = len(weights) if budget is None else budget // (REPLICATES * n_targets)
    if affordable < 1:
        raise BudgetTooSmall("expected-gradients", REPLICATES * n_targets, budget or 0)
    if affordable >= len(weights):
        everything = np.tile(np.arange(len(weights)), (REPLICATES, 1))
        return everything, np.tile(weights, (REPLICATES, 1))
    picks = np.empty((REPLICATES, affordable), dtype=np.intp)
    for replicate in range(REPLICATES):
        order = rng.permutation(len(weights))
        marks = (np.arange(affordable) + rng.random()) / affordable
        picks[replicate] = order[np.searchsorted(np.cumsum(weights[order])[:-1], marks, side="right")]
    return picks, np.full(picks.shape, 1.0 / affordable)


def _path_sums(
    game: Game,
    gradient: Gradient,
    target: int,
    chosen: NDArray[np.intp],
    weights: NDArray[np.float64],
    positions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """`(REPLICATES, n_players)`: weighted sums of (x - b) * gradient over path points.

    Points are put through the network in slices of a fixed size, the last one filled up with the row itself, and
    summed in float64 in their order.
    """
    n_points = positions.size
    per_replicate = n_points // REPLICATES
    references = np.repeat(chosen.reshape(-1), positions.shape[2])
    point_weights = np.repeat(weights.reshape(-1), positions.shape[2])
    along = positions.reshape(-1)
    ones = (1,) * game.row.ndim
    sums = np.zeros((REPLICATES, *game.row.shape))
    targets = np.full(gradient.slice_rows, target, dtype=np.int32)
    points = np.empty((gradient.slice_rows, *game.row.shape), dtype=np.float32)
    for start in range(0, n_points, gradient.slice_rows):
        stop = min(start + gradient.slice_rows, n_points)
        steps = game.row - game.background.rows[references[start:stop]]
        points[: stop - start] = game.row - (1 - along[start:stop]).reshape(-1, *ones) * steps
        points[stop - start :] = game.row
        slopes = gradient(points, targets)[: stop - start].astype(np.float64)
        slopes *= steps * point_weights[start:stop].reshape(-1, *ones)
        owner = np.arange(start, stop) // per_replicate
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        sums[owner[first]] += np.add.reduceat(slopes, first, axis=0)
    return game.sum_to_players(sums)
