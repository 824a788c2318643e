"""Games whose Shapley values and interactions are known in closed form, and tiny models to explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from explain.game import Background, Evaluate, Game
from explain.players import feature_players


@dataclass(frozen=True)
class KnownGame:
    """A game with its `(n_players, n_outputs)` Shapley values and `(n_pairs, n_outputs)` interactions."""

    game: Game
    shapley: Any
    interactions: Any


def game_of(evaluate: Evaluate, row: Any, background: Any, *, weights: Any = None, players: Any = None) -> Game:
    row = np.asarray(row, dtype=np.float32)
    reference = Background.of(np.asarray(background, dtype=np.float32), evaluate, weights)
    return Game(evaluate, row, reference, feature_players(len(row)) if players is None else players)


def coalition_game(n_players: int, value_of: Any) -> Game:
    """A game by its value function: `(n_coalitions, n_players)` of 0 and 1 to `(n_coalitions, n_outputs)`."""
    return game_of(lambda rows: value_of(rows.astype(np.float64)), np.ones(n_players), np.zeros((1, n_players)))


def unanimity_game(n_players: int, *, seed: int, most_members: int = 5) -> KnownGame:
    """Sums of unanimity games, each paying its coefficient once all of its members are in.

    Each member gets an equal share; each two members interact by the coefficient / (members - 1) (Grabisch and Roubens
    1999, section 4).
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most_members + 1, size=5 * n_players)
    members = np.argsort(np.argsort(rng.random((len(sizes), n_players)))) < sizes[:, np.newaxis]
    coefficients = rng.normal(size=(len(sizes), 2))
    game = coalition_game(n_players, lambda rows: (np.rint(rows @ members.T) == sizes) @ coefficients)
    first, second = np.triu_indices(n_players, 1)
    together = members[:, first] & members[:, second]
    return KnownGame(
        game,
        (members / sizes[:, np.newaxis]).T @ coefficients,
        (together / np.maximum(sizes - 1, 1)[:, np.newaxis]).T @ coefficients,
    )


def random_network(n_players: int, *, seed: int = 0, n_background: int = 4, without: int | None = None) -> Game:
    """A float64 network of two outputs with interactions of every order, and an unequally weighted background."""
    rng = np.random.default_rng(seed)
    inner, bias = rng.normal(size=(n_players, 12)) * 2 / np.sqrt(n_players), rng.normal(size=12)
    outer = rng.normal(size=(12, 2))
    if without is not None:
        inner[without] = 0

    def evaluate(rows: Any) -> Any:
        # einsum: a BLAS product's last bits depend on the number of rows
        hidden = np.einsum("nd,dh->nh", rows.astype(np.float64), inner)
        return np.einsum("nh,ho->no", np.maximum(hidden + bias, 0), outer)

    background = rng.normal(size=(n_background, n_players))
    return game_of(evaluate, rng.normal(size=n_players), background, weights=rng.dirichlet(np.full(n_background, 5.0)))
