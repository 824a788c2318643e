"""Shapley values by evaluating every coalition."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate, Interactions
from explain.errors import MethodDoesNotFit
from explain.game import CoalitionMatrix, Game
from explain.interactions import exact_interactions

MAX_PLAYERS = 20
"""Above this many differing players 2^n coalitions are out of reach, whatever the machine."""

KEPT_PLAYERS = 13
"""Up to as many players the matrices of a game are kept: 2 MiB for all sizes together."""


def exact_cost(game: Game) -> float:
    """Rows that `exact` evaluates: for each background row, two to the number of players that differ from it."""
    return float(sum(coalition_count(n_differing) for n_differing in game.differing.sum(axis=1).tolist()))


def coalition_count(n_players: int) -> float:
    """2^n_players; infinity where a float ends."""
    return 2.0**n_players if n_players < sys.float_info.max_exp else math.inf


def exact(game: Game, *, slice_rows: int, interactions: bool = False) -> Estimate:
    """Shapley values of every output (Shapley 1953), with no sampling.

    The Shapley value of a weighted mean of games is the weighted mean of their Shapley values, so each background
    row is its own game, and in it only the players that differ from the background row play: the others are dummies.
    Background rows with the same differing players share one coalition matrix.

    Args:
        slice_rows: the most rows in one call of the model. How rows are cut into calls depends on nothing else.
        interactions: whether to give those of every two players too, from the same evaluations.

    Returns:
        An `Estimate` over all outputs, with standard errors of 0.

    Raises:
        MethodDoesNotFit: when more than 20 players differ from a background row.
    """
    n_differing = int(game.differing.sum(axis=1).max())
    if n_differing > MAX_PLAYERS:
        reason = f"it takes at most {MAX_PLAYERS} players, and {n_differing} differ here"
        raise MethodDoesNotFit("exact", reason, ("permutation", "partition"))
    patterns, group_of = _patterns(game.differing)
    n_outputs = len(game.background.base_values)
    attributions = np.zeros((game.n_players, n_outputs))
    joint = np.zeros((game.n_players, game.n_players, n_outputs)) if interactions else None
    games = [_Reduced(pattern.nonzero()[0], (group_of == i).nonzero()[0]) for i, pattern in enumerate(patterns)]
    for reduced, values in zip(games, _values(game, games, slice_rows), strict=True):
        attributions[reduced.playing] += reduced.matrix @ values
        if joint is not None:
            joint[reduced.playing[:, np.newaxis], reduced.playing] += exact_interactions(reduced.coalitions, values)
    zeros = np.zeros_like(attributions)
    return Estimate(
        method="exact",
        estimand="shapley",
        attributions=attributions,
        standard_errors=zeros,
        half_widths=zeros,
        values=game.value,
        base_values=game.background.base_values,
        scales=game.scales,
        evaluations=int(exact_cost(game)),
        stop_reason="exact",
        interactions=None if joint is None else Interactions.of_matrices(joint, np.zeros_like(joint)),
    )


def _patterns(differing: CoalitionMatrix) -> tuple[CoalitionMatrix, NDArray[np.intp]]:
    """The distinct rows, and which of them each row is."""
    # Rows as bytes are told apart ten times faster than by `numpy.unique(axis=0)`.
    numbers: dict[bytes, int] = {}
    group_of = [numbers.setdefault(row.tobytes(), len(numbers)) for row in differing]
    return np.array([np.frombuffer(row, dtype=bool) for row in numbers]), np.array(group_of)


class _Reduced:
    """The game of the background rows that differ from the explained row in the same players.

    Attributes:
        playing: those players.
        members: the background rows.
        coalitions: `(2^n_playing, n_playing)`.
        matrix: `shapley_matrix`.
    """

    def __init__(self, playing: NDArray[np.intp], members: NDArray[np.intp]) -> None:
        self.playing, self.members = playing, members
        self.coalitions, self.matrix = _of_players(len(playing))


def _values(game: Game, games: list[_Reduced], slice_rows: int) -> Iterator[NDArray[np.float64]]:
    """`(2^n_playing, n_outputs)` of each game: the weighted sums of the outputs for its background rows."""
    if sum(len(reduced.coalitions) * len(reduced.members) for reduced in games) > slice_rows:
        for reduced in games:
            yield game.coalition_values(reduced.coalitions, reduced.playing, reduced.members, slice_rows=slice_rows)
        return
    # Small games go together: a call of each would cost as much again as the network.
    rows = [game.mixed_rows(reduced.coalitions, reduced.playing, reduced.members) for reduced in games]
    ends = np.cumsum([len(part) for part in rows])
    outputs = np.split(game.evaluate(np.concatenate(rows)), ends[:-1])
    for reduced, part in zip(games, outputs, strict=True):
        yield game.weighted_sums(part, reduced.members)


def _of_players(n_players: int) -> tuple[CoalitionMatrix, NDArray[np.float64]]:
    """`all_coalitions` and `shapley_matrix`, kept where they are small: making them takes as long as a network does."""
    return _kept(n_players) if n_players <= KEPT_PLAYERS else (all_coalitions(n_players), shapley_matrix(n_players))


@lru_cache
def _kept(n_players: int) -> tuple[CoalitionMatrix, NDArray[np.float64]]:
    kept = all_coalitions(n_players), shapley_matrix(n_players)
    for matrix in kept:
        matrix.setflags(write=False)
    return kept


def all_coalitions(n_players: int) -> CoalitionMatrix:
    """Every coalition of n players, `(2^n_players, n_players)`; coalition c holds player i when bit i of c is set."""
    return (np.arange(2**n_players)[:, np.newaxis] >> np.arange(n_players) & 1).astype(bool)


def shapley_matrix(n_players: int) -> NDArray[np.float64]:
    """W with Shapley values = W @ v, `(n_players, 2^n_players)`, coalitions in the order of `all_coalitions`.

    Player i weighs v(S) by (|S|-1)! (n-|S|)! / n! when it is in S, and by -|S|! (n-|S|-1)! / n! when it is not.
    """
    coalitions = all_coalitions(n_players)
    sizes = coalitions.sum(axis=1)
    # 1 / (n * C(n-1, s)) is s! (n-s-1)! / n!, without the factorials.
    joining = np.array([1.0 / (n_players * math.comb(n_players - 1, size)) for size in range(n_players)])
    padded = np.concatenate([[0.0], joining, [0.0]])
    return np.where(coalitions.T, padded[sizes], -padded[sizes + 1])
