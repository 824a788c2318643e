"""Small models in plain numpy, right explainers of them, and wrong ones that a check must find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.exact import exact
from explain.fidelity.subject import Explain, Subject
from explain.game import Background, Evaluate, Game, Rows
from explain.gradients import expected_gradients
from explain.limits import Limits
from explain.players import feature_players
from explain.regression import kernel
from explain.running import of_targets


class Network:
    """Two layers of tanh with two outputs, `(n_rows, n_features)` to `(n_rows, 2)`, and its gradient."""

    slice_rows = 256

    def __init__(self, n_features: int, seed: int, strength: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.first = strength * rng.normal(size=(n_features, 8)) / np.sqrt(n_features)
        self.second = rng.normal(size=(8, 2))

    def evaluate(self, rows: Rows) -> NDArray[np.float64]:
        # einsum: a BLAS product's last bit depends on how many rows it has.
        return np.einsum("rh,ho->ro", np.tanh(np.einsum("ri,ih->rh", rows.astype(np.float64), self.first)), self.second)

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.float64]:
        bends = 1 - np.tanh(np.einsum("ri,ih->rh", rows.astype(np.float64), self.first)) ** 2
        return np.einsum("rh,hr,ih->ri", bends, self.second[:, targets], self.first)


def rows_of(n_rows: int, n_features: int, seed: int) -> Rows:
    return np.random.default_rng([seed, 1]).normal(size=(n_rows, n_features)).astype(np.float32)


def subject_of(
    evaluate: Evaluate, explain: Explain, n_features: int, *, seed: int, sees_only_game: bool = True
) -> Subject:
    background = Background.of(rows_of(16, n_features, seed + 1000), evaluate)
    return Subject(evaluate, background, feature_players(n_features), explain, sees_only_game, path_tolerance=0.02)


def by_exact(game: Game, targets: Sequence[int], seed: int) -> Estimate:  # noqa: ARG001
    return of_targets(exact(game, slice_rows=4096), tuple(targets))


def by_kernel(tolerance: float) -> Explain:
    def explain(game: Game, targets: Sequence[int], seed: int) -> Estimate:
        return kernel(game, targets, seed=seed, limits=Limits(tolerance), slice_rows=256)

    return explain


def by_expected_gradients(network: Network, tolerance: float) -> Explain:
    def explain(game: Game, targets: Sequence[int], seed: int) -> Estimate:
        return expected_gradients(game, network, targets, seed=seed, limits=Limits(tolerance, budget=40_000))

    return explain


def changed(
    explain: Explain, change: Callable[[Game, NDArray[np.float64]], NDArray[np.float64]], **claims: Any
) -> Explain:
    """An explainer whose attributions `(n_players, n_targets)` are spoilt, and which claims what the right one does."""

    def spoilt(game: Game, targets: Sequence[int], seed: int) -> Estimate:
        estimate = explain(game, targets, seed)
        return replace(estimate, attributions=change(game, estimate.attributions), **claims)

    return spoilt


def shuffled(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same values on other players; they still add up."""
    return np.random.default_rng(game.row.view(np.uint32).reshape(-1)).permutation(attributions)


def flipped(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ARG001
    return -attributions


def random_parts(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise of the right size that is made to add up."""
    noise = np.random.default_rng(game.row.view(np.uint32).reshape(-1)).normal(size=attributions.shape)
    noise *= np.abs(attributions).mean(axis=0)
    return noise + (attributions.sum(axis=0) - noise.sum(axis=0)) / len(noise)


def doubled(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ARG001
    return 2 * attributions


def largest_only(game: Game, attributions: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ARG001
    """Only half of the players, the rest put on the first of them: adds up, as a selection of features does."""
    sizes = np.abs(attributions)
    kept = np.where(sizes >= np.median(sizes, axis=0), attributions, 0.0)
    kept[0] += attributions.sum(axis=0) - kept.sum(axis=0)
    return kept
