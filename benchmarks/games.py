"""The games that Shapley estimators are measured on: models whose Shapley values are known without sampling, or nearly.

Each explains one row against a single background row, as the protocol of Musco and Witter (2024, "Provably accurate
Shapley value estimation via leverage score sampling") does: a call is one coalition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import shap
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from explain.game import Background, Game
from explain.limits import Limits
from explain.players import feature_players
from explain.regression import kernel

Values = NDArray[np.float64]
"""`(n_players,)`."""
Model = Callable[[NDArray[Any]], NDArray[np.float64]]
"""Rows `(n_rows, n_players)` to `(n_rows,)`."""

LONG_RUN_CALLS = 1_000_000
"""Calls of the run that stands for the truth of the network: its error is about 1/1,000 of the least that is shown."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One game to estimate: a row against a baseline, with the Shapley values, and the seed of its estimators."""

    model: Model
    row: NDArray[np.float32]
    baseline: NDArray[np.float32]
    truth: Values
    seed: int

    def game(self, model: Model | None = None) -> Game:
        """As our estimators take it; `model` stands in for the draw's own, to count its calls."""
        played = model or self.model

        def evaluate(rows: NDArray[np.float32]) -> NDArray[np.float64]:
            return played(rows)[:, np.newaxis]

        # The background's own call is not one of the estimator's.
        background = Background(
            self.baseline[np.newaxis], np.ones(1), self.model(self.baseline[np.newaxis])[np.newaxis]
        )
        return Game(evaluate, self.row, background, feature_players(len(self.row)))


def tree_draws(data: str, n_draws: int) -> Iterator[Draw]:
    """XGBoost, 100 trees of depth 4, on one of shap's data sets; the truth is interventional TreeSHAP.

    As in the protocol, a value of the row that equals the baseline's is replaced by another row's.
    """
    rows, targets = _data_of(data)
    trees = _trees_of(data, rows, targets)
    # What the trees see is float32, so the truth is asked for the same.
    baseline = rows.mean(axis=0).astype(np.float32)
    explainer = shap.TreeExplainer(trees, baseline[np.newaxis].astype(np.float64))

    def model(asked: NDArray[Any]) -> NDArray[np.float64]:
        return trees.get_booster().inplace_predict(asked, predict_type="margin").astype(np.float64)

    for seed in range(n_draws):
        row = _drawn_row(rows, baseline, seed)
        truth = np.asarray(explainer.shap_values(row[np.newaxis].astype(np.float64)), dtype=np.float64).reshape(-1)
        yield Draw(model, row, baseline, truth, seed)


def network_draws(n_draws: int) -> Iterator[Draw]:
    """The probability of a ReLU network (32, 16) on breast-cancer; the truth is a run of a million calls."""
    rows, _ = _data_of("breast-cancer")
    network, scaler = _network()
    baseline = rows.mean(axis=0).astype(np.float32)

    def model(asked: NDArray[Any]) -> NDArray[np.float64]:
        hidden = scaler.transform(asked)
        for weights, bias in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weights + bias, 0)
        return 1 / (1 + np.exp(-(hidden @ network.coefs_[-1] + network.intercepts_[-1])[:, 0]))

    for seed in range(n_draws):
        row = _drawn_row(rows, baseline, seed)
        unknown = Draw(model, row, baseline, np.zeros(len(row)), seed)
        limits = Limits(0, LONG_RUN_CALLS)
        # Another seed than the estimators': the long run must not begin with what they see.
        truth = kernel(unknown.game(), [0], seed=10_000 + seed, limits=limits, slice_rows=LONG_RUN_CALLS)
        yield Draw(model, row, baseline, truth.attributions[:, 0], seed)


def unanimity_draws(n_players: int, n_draws: int) -> Iterator[Draw]:
    """Sums of 5 n unanimity games of 1 to 5 members with normal coefficients; each pays its members alike."""
    for seed in range(n_draws):
        rng = np.random.default_rng([n_players, seed])
        n_games = 5 * n_players
        members = np.zeros((n_games, n_players), dtype=np.float64)
        for game, size in enumerate(rng.integers(1, 6, n_games)):
            members[game, rng.choice(n_players, size, replace=False)] = 1
        coefficients = rng.normal(size=n_games)
        sizes = members.sum(axis=1)

        def model(
            asked: NDArray[Any],
            members: NDArray[np.float64] = members,
            sizes: NDArray[np.float64] = sizes,
            coefficients: NDArray[np.float64] = coefficients,
        ) -> NDArray[np.float64]:
            return (asked.astype(np.float64) @ members.T == sizes) @ coefficients

        truth = (members / sizes[:, np.newaxis]).T @ coefficients
        row, baseline = np.ones(n_players, dtype=np.float32), np.zeros(n_players, dtype=np.float32)
        yield Draw(model, row, baseline, truth, seed)


GAMES: dict[str, tuple[int, Callable[[int], Iterator[Draw]]]] = {
    "diabetes": (10, lambda n_draws: tree_draws("diabetes", n_draws)),
    "independentlinear60": (60, lambda n_draws: tree_draws("independentlinear60", n_draws)),
    "breast-cancer, trees": (30, lambda n_draws: tree_draws("breast-cancer", n_draws)),
    "breast-cancer, network": (30, network_draws),
    "unanimity 60": (60, lambda n_draws: unanimity_draws(60, n_draws)),
    "unanimity 100": (100, lambda n_draws: unanimity_draws(100, n_draws)),
}
"""Players and draws of each game."""


def _drawn_row(rows: NDArray[np.float64], baseline: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    row = rows[rng.integers(len(rows))].astype(np.float32)
    for column in range(len(row)):
        while row[column] == baseline[column]:
            row[column] = rows[rng.integers(len(rows)), column]
    return row


@cache
def _data_of(data: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if data == "breast-cancer":
        rows, targets = load_breast_cancer(return_X_y=True)
    else:
        rows, targets = getattr(shap.datasets, data)()
    return np.asarray(rows, dtype=np.float64), np.asarray(targets, dtype=np.float64)


def _trees_of(data: str, rows: NDArray[np.float64], targets: NDArray[np.float64]) -> Any:
    from xgboost import XGBClassifier, XGBRegressor  # pyright: ignore[reportMissingImports]

    kind = XGBClassifier if data == "breast-cancer" else XGBRegressor
    return kind(n_estimators=100, max_depth=4, n_jobs=1).fit(rows, targets)


@cache
def _network() -> tuple[MLPClassifier, StandardScaler]:
    rows, targets = _data_of("breast-cancer")
    scaler = StandardScaler().fit(rows)
    network = MLPClassifier((32, 16), alpha=0.001, learning_rate_init=0.003, max_iter=60, random_state=0)
    import warnings

    with warnings.catch_warnings():
        # A fixed number of epochs is meant: the network need not have converged to be explained.
        warnings.simplefilter("ignore")
        network.fit(scaler.transform(rows), targets)
    return network, scaler
