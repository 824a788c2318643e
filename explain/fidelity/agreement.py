"""Whether two explanations of the same rows agree: two methods, two halves of a background, two models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.game import Background

TOP = 5


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two explanations of one row, each 0 to 1 but `correlation`.

    Attributes:
        features: the part of the k largest players, by magnitude, that both name.
        ranks: the part of the k places that hold the same player in both.
        signs: the part of the k largest that both name, with the same sign.
        signed_ranks: the part of the k places that hold the same player with the same sign.
        correlation: Spearman's, -1 to 1, over all players with their signs; NaN where one explanation is constant.
    """

    features: float
    ranks: float
    signs: float
    signed_ranks: float
    correlation: float


def agreement(left: NDArray[np.float64], right: NDArray[np.float64], *, top: int = TOP) -> Agreement:
    """Top-k agreement (Krishna et al. 2022, "The disagreement problem in explainable machine learning").

    Two right explanations of different estimands may disagree where features interact: disagreement says how much
    depends on the question, and is no fault by itself.

    Args:
        left, right: `(n_players,)`, attributions of one target.
        top: k; fewer where there are fewer players. Equal magnitudes go by player.
    """
    k = min(top, len(left))
    firsts, seconds = (np.argsort(-np.abs(values), kind="stable")[:k] for values in (left, right))
    shared = np.intersect1d(firsts, seconds)
    same_place = firsts == seconds
    same_sign = np.sign(left) == np.sign(right)
    return Agreement(
        features=len(shared) / k,
        ranks=float(same_place.mean()),
        signs=float(same_sign[shared].sum()) / k,
        signed_ranks=float((same_place & same_sign[firsts]).mean()),
        correlation=rank_correlation(left, right),
    )


def rank_correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where one side is constant."""
    first, second = centred_ranks(left), centred_ranks(right)
    norms = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / norms if norms > 0 else float("nan")


def centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n_players,)`: ranks less their mean, ties at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse.reshape(-1)] - (len(values) - 1) / 2


def halves(background: Background, *, seed: int) -> tuple[Background, Background]:
    """Two disjoint halves of the background, drawn at random, their weights summing to 1 each. Nothing is evaluated.

    Args:
        background: of at least two rows.
    """
    order = np.random.default_rng(seed).permutation(len(background.rows))
    first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    return part_of(background, first), part_of(background, second)


def part_of(background: Background, members: NDArray[np.intp]) -> Background:
    """Some rows of a background, their weights made to sum to 1. Nothing is evaluated."""
    weights = background.weights[members]
    return Background(background.rows[members], weights / weights.sum(), background.outputs[members])
