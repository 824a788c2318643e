"""Shapley values by evaluating every coalition."""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate, Interactions
from explain.errors import MethodDoesNotFit
from explain.game import CoalitionMatrix, Game
from explain.interactions import exact_interactions

MAX_PLAYERS = 20
"""Above this many differing players 2^n coalitions are out of reach, whatever the machine."""


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
    patterns, group_of = np.unique(game.differing, axis=0, return_inverse=True)
    group_of = group_of.reshape(-1)
    n_outputs = len(game.background.base_values)
    attributions = np.zeros((game.n_players, n_outputs))
    joint = np.zeros((game.n_players, game.n_players, n_outputs)) if interactions else None
    for group, pattern in enumerate(patterns):
        playing = np.flatnonzero(pattern)
        members = np.flatnonzero(group_of == group)
        coalitions = all_coalitions(len(playing))
        values = game.coalition_values(coalitions, playing, members, slice_rows=slice_rows)
        attributions[playing] += shapley_matrix(len(playing)) @ values
        if joint is not None:
            joint[playing[:, np.newaxis], playing] += exact_interactions(coalitions, values)
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
