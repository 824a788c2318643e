"""What pairs of coalitions owe to three players at once: the part of a game that hides its Shapley values, learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Attributions
from explain.linear import Matrix, inverse, tridiagonal

RANK = 128
"""Features at most: they cost the regression their square times the pairs."""
LEAST_WEIGHT = 1e-3
"""What a player without any attribution may still take part in triples, beside the one with most."""
LEAST_SPREAD = 1e-9
"""Features end where so small a part of the triples' variance is left."""
PENALTIES = np.logspace(-4, 3, 29)
"""Tried, in units of the features' mean square: from nearly free to nearly none."""


def triple_features(signs: Matrix, weights: NDArray[np.float64]) -> Matrix:
    """Features of coalitions that no Shapley value depends on, the best `RANK` of all triples of players.

    Shapley values depend on v(S) - v(complement of S) alone: on the odd part of the game (Fumagalli et al. 2026,
    "OddSHAP"). With signs z, 1 for players in S and -1 for the others, it is a sum of products of 1, 3, 5, ... signs.
    The product of three less the mean of the three has Shapley values of 0, so that it can be taken from a game
    without changing them. A triple's coefficient is thought to vary with the product of its players' weights, which
    makes the covariance of two coalitions a polynomial of their weighted agreement; its factor of low rank is taken
    by pivoted Cholesky decomposition (Fine and Scheinberg 2001).

    Args:
        signs: `(n_coalitions, n_players)`, 1 and -1.
        weights: `(n_players,)`, positive.

    Returns:
        `(n_coalitions, n_features)`.
    """
    n_coalitions = len(signs)
    squares, cubes = weights**2, weights**3
    total, sum_of_squares = weights.sum(), squares.sum()
    weighted = signs * weights
    others = weighted.sum(axis=1, keepdims=True) - weighted
    # over the triples that hold a player: sums of their products, and of their weights for each two players
    singles = weighted * (others**2 - (sum_of_squares - squares)) / 2
    shared = weights[:, np.newaxis] * weights * (total - weights[:, np.newaxis] - weights)
    np.fill_diagonal(shared, weights * ((total - weights) ** 2 - (sum_of_squares - squares)) / 2)
    means = np.einsum("mi,ij->mj", signs, shared) / 9

    def covariances(chosen: int) -> NDArray[np.float64]:
        agreement = np.einsum("mi,i->m", weighted, signs[chosen])
        cubed = np.einsum("mi,i->m", signs * cubes, signs[chosen])
        products = (agreement**3 - 3 * agreement * sum_of_squares + 2 * cubed) / 6
        crossed = np.einsum("mi,i->m", singles, signs[chosen]) + np.einsum("mi,i->m", signs, singles[chosen])
        return products - crossed / 3 + np.einsum("mi,i->m", means, signs[chosen])

    all_products = (total**3 - 3 * total * sum_of_squares + 2 * cubes.sum()) / 6
    left = all_products - 2 * (singles * signs).sum(axis=1) / 3 + (means * signs).sum(axis=1)
    least = LEAST_SPREAD * left.sum()
    features = np.zeros((n_coalitions, min(RANK, n_coalitions)))
    for number in range(features.shape[1]):
        pivot = int(np.argmax(left))
        if left[pivot] <= least:
            return features[:, :number]
        known = np.einsum("mk,k->m", features[:, :number], features[pivot, :number])
        features[:, number] = (covariances(pivot) - known) / np.sqrt(left[pivot])
        left = np.maximum(left - features[:, number] ** 2, 0)
        left[pivot] = 0
    return features


@dataclass(frozen=True, slots=True)
class Correction:
    """Of one target: what to take from its attributions, and how the rest of the regression looks then.

    Attributes:
        attributions: `(n_players,)`, to be subtracted.
        influences: `(n_seen, n_players)`, what each observation adds to each attribution per unit.
        left_out: `(n_seen,)`, each observation less its prediction from all others.
    """

    attributions: NDArray[np.float64]
    influences: Matrix
    left_out: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Regression:
    """The regression on players alone, of all outputs.

    Attributes:
        signs, regressors: `(n_seen, n_players)`.
        weights, leverages: `(n_seen,)`.
        influences: `(n_seen, n_players)`.
        attributions: `(n_players, n_outputs)`.
        residuals: `(n_seen, n_outputs)`.
    """

    signs: Matrix
    regressors: Matrix
    weights: NDArray[np.float64]
    leverages: NDArray[np.float64]
    influences: Matrix
    attributions: Attributions
    residuals: Matrix

    def player_weights(self) -> NDArray[np.float64] | None:
        """`(n_players,)`: the root mean square, over outputs, of the part of each in the attributions.

        Interactions keep to players that matter alone (heredity; Chipman 1996). All outputs have a say, so that
        attributions of one do not depend on which others were asked for. None where no output has any.
        """
        norms = np.sqrt((self.attributions**2).sum(axis=0))
        alive = norms > 0
        if not alive.any():
            return None
        parts = np.sqrt(((self.attributions[:, alive] / norms[alive]) ** 2).mean(axis=1))
        return parts / parts.max() + LEAST_WEIGHT

    def corrections(self, targets: list[int]) -> list[Correction | None]:
        """For each target, or None where nothing is left to learn.

        The features' coefficients are ridge estimates, with the penalty of greatest restricted likelihood (Patterson
        and Thompson 1971); players' are not penalized. Residuals then keep their weighted sums of 0 with each player,
        as if the regression adjusted had been corrected by its residuals (Witter et al. 2025, "Regression-adjusted
        Monte Carlo estimators for Shapley values and probabilistic values"), but from the same pairs: what the ridge
        shrinks stays as a bias.
        """
        nothing: list[Correction | None] = [None] * len(targets)
        player_weights = self.player_weights()
        if player_weights is None:
            return nothing
        features = triple_features(self.signs, player_weights)
        onto_players = np.einsum("mi,mk->ik", self.influences, features)
        features = features - np.einsum("mi,ik->mk", self.regressors, onto_players)
        weighted = self.weights[:, np.newaxis] * features
        gram = np.einsum("mk,ml->kl", weighted, features)
        mean_square = np.trace(gram) / max(len(gram), 1)
        if mean_square <= 0:
            return nothing
        residuals = self.residuals[:, targets]
        products = np.einsum("mk,mt->kt", weighted, residuals)
        squares = np.einsum("m,mt->t", self.weights, residuals**2)
        n_free = len(features) - (self.signs.shape[1] - 1)
        penalties = best_penalties(gram / mean_square, products / np.sqrt(mean_square), squares, n_free) * mean_square
        return [
            self._correction(onto_players, features, weighted, gram, residuals[:, place], float(penalty))
            if squares[place] > 0
            else None
            for place, penalty in enumerate(penalties)
        ]

    def _correction(
        self,
        onto_players: Matrix,
        features: Matrix,
        weighted: Matrix,
        gram: Matrix,
        residuals: NDArray[np.float64],
        penalty: float,
    ) -> Correction:
        solver = inverse(gram + penalty * np.eye(len(gram)))
        pulls = np.einsum("mk,kl->ml", weighted, solver)
        coefficients = np.einsum("mk,m->k", pulls, residuals)
        leverages = self.leverages + np.einsum("mk,mk->m", pulls, features)
        left = residuals - np.einsum("mk,k->m", features, coefficients)
        return Correction(
            attributions=np.einsum("ik,k->i", onto_players, coefficients),
            influences=self.influences - np.einsum("mk,ik->mi", pulls, onto_players),
            left_out=left / np.maximum(1 - leverages, 1e-6),
        )


def best_penalties(gram: Matrix, products: Matrix, squares: NDArray[np.float64], n_free: int) -> NDArray[np.float64]:
    """The ridge penalty of greatest restricted likelihood for each target, `(n_targets,)`, of `PENALTIES`.

    Args:
        gram: `(n_features, n_features)`.
        products: `(n_features, n_targets)`, of features and responses.
        squares: `(n_targets,)`, of the responses.
        n_free: observations less unpenalized unknowns.
    """
    diagonal, beside, turned = tridiagonal(gram, products)
    # Elimination for all penalties and targets at once: (n_penalties, n_targets)
    pivots = diagonal[0] + PENALTIES
    carried = np.repeat(turned[:1], len(PENALTIES), axis=0)
    determinants = np.log(pivots / PENALTIES)
    explained = carried**2 / pivots[:, np.newaxis]
    for row in range(1, len(diagonal)):
        factors = beside[row - 1] / pivots
        carried = turned[row] - factors[:, np.newaxis] * carried
        pivots = diagonal[row] + PENALTIES - factors * beside[row - 1]
        determinants = determinants + np.log(pivots / PENALTIES)
        explained = explained + carried**2 / pivots[:, np.newaxis]
    # Rounding may explain more than all.
    unexplained = np.maximum(squares - explained, 1e-15 * squares)
    lost = n_free * np.log(np.maximum(unexplained, np.finfo(np.float64).tiny)) + determinants[:, np.newaxis]
    return PENALTIES[np.argmin(lost, axis=0)]
