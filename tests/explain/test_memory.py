"""Memory does not follow the number of samples: rows are made, evaluated and forgotten slice by slice."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.game import Background, Game
from explain.gradients import expected_gradients
from explain.limits import Limits
from explain.partition import partition
from explain.permutation import permutation
from explain.perturbation import rise
from explain.players import feature_players
from explain.regression import kernel
from explain.smoothing import smooth_grad

SLICE_ROWS, N_BACKGROUND, TIMES = 2048, 100, 64


@dataclass(frozen=True)
class Slopes:
    """Of tanh(w x)."""

    weights: NDArray[np.float64]
    slice_rows: int = SLICE_ROWS

    def __call__(self, rows: NDArray[np.float32], targets: NDArray[np.int32]) -> NDArray[np.float64]:
        del targets
        return (1 - np.tanh(rows @ self.weights) ** 2)[:, np.newaxis] * self.weights


def game_of(n_players: int, *, series: bool = False) -> tuple[Game, Slopes]:
    weights = np.random.default_rng(0).normal(size=n_players) / np.sqrt(n_players)
    shape = (n_players, 1) if series else (n_players,)

    def evaluate(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.tanh(rows.reshape(len(rows), -1) @ weights)[:, np.newaxis]

    rows = np.random.default_rng(1).normal(size=(N_BACKGROUND + 1, *shape)).astype(np.float32)
    players = feature_players(n_players).reshape(shape)
    return Game(evaluate, rows[0], Background.of(rows[1:], evaluate), players), Slopes(weights)


def by_kernel(limits: Limits) -> Estimate:
    return kernel(game_of(20)[0], [0], seed=0, limits=limits, slice_rows=SLICE_ROWS)


def by_permutation(limits: Limits) -> Estimate:
    return permutation(game_of(20)[0], [0], seed=0, limits=limits, slice_rows=SLICE_ROWS)


def by_partition(limits: Limits) -> Estimate:
    # So many players that no run of this length sees every combination of their groups.
    return partition(game_of(120)[0], [0], seed=0, limits=limits, slice_rows=SLICE_ROWS)


def by_expected_gradients(limits: Limits) -> Estimate:
    game, slopes = game_of(64)
    return expected_gradients(game, slopes, [0], seed=0, limits=limits)


def by_smooth_grad(limits: Limits) -> Estimate:
    game, slopes = game_of(64)
    return smooth_grad(game, slopes, [0], seed=0, limits=limits)


def by_rise(limits: Limits) -> Estimate:
    return rise(game_of(64, series=True)[0], [0], seed=0, limits=limits, slice_rows=SLICE_ROWS, cells=8)


def peak_bytes(run: Callable[[], Estimate]) -> tuple[int, Estimate]:
    tracemalloc.start()
    try:
        estimate = run()
        return tracemalloc.get_traced_memory()[1], estimate
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("run", "n_players", "most"),
    [
        # It learns triples from all coalitions together: some kilobytes each.
        (by_kernel, 20, 0.5),
        (by_permutation, 20, 0.1),
        (by_partition, 120, 0.1),
        (by_expected_gradients, 64, 0.15),
        (by_smooth_grad, 64, 0.0),
        (by_rise, 64, 0.0),
    ],
)
def test_64_times_the_samples_take_no_more_memory_than_what_was_drawn(
    run: Callable[[Limits], Estimate], n_players: int, most: float
) -> None:
    """A coalition's name and value are kept, or a position on a path: a part of the rows, which shap keeps."""
    few = 4 * 20 * N_BACKGROUND
    run(Limits(0, few))  # what is imported late is not counted

    (little, short), (much, long) = (
        peak_bytes(lambda budget=budget: run(Limits(0, budget))) for budget in (few, TIMES * few)
    )

    evaluated = long.evaluations - short.evaluations
    assert evaluated > 0.4 * TIMES * few
    assert much < 1.05 * little + most * evaluated * n_players * np.dtype(np.float32).itemsize
