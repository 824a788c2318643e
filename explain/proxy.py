"""Models of what a game adds to its additive part: fitted to pairs of coalitions, each of them predicted by the others.

Shapley values depend on v(S) - v(complement of S) alone: on the odd part of a game (Fumagalli et al. 2026, "OddSHAP").
With signs z, 1 for players in S and -1 for the others, it is a sum of products of 1, 3, 5, ... signs. The models here
have the products of one and of three, and powers of the size of S.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from explain.linear import Matrix, cholesky, solve_lower
from explain.sampling import SeenPairs

RANK = 128
"""Features for triples at most: they cost the fit their square times the pairs."""
MAX_PLAYERS_OF_TRIPLES = 256
"""Beyond, the fit would take longer than what it saves."""
LEAST_WEIGHT = 1e-3
"""What a player without any attribution may still take part in triples, beside the one with most."""
LEAST_PIVOT = 1e-9
"""Of the variance of triples: a coalition of which the others leave so little adds no feature."""
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-6)
"""Tried: the variance of noise, where that of the triples is 1."""
ADDITIVE_SPREAD = 60.0
"""The variance of the additive part, where that of the triples is 1."""
NO_PENALTY = 1e-10
"""Of the additive model: what keeps it defined where pairs do not tell all players apart."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Functions of a coalition, and what they have to do with each player.

    Attributes:
        features: `(n_seen, n_features)`: first those of single players, last those of triples.
        additive: `(n_players,)`: what a single player's regressor is multiplied by.
        triples: `(n_triple_features, n_players)`: in each, the sum of the products that hold a player.
        triple_slopes: `(n_strata,)`: the mean of a player's regressor times a product of three signs, where the player
            is one of the three, less where it is not.
    """

    features: Matrix
    additive: NDArray[np.float64]
    triples: Matrix
    triple_slopes: NDArray[np.float64]

    @classmethod
    def of_players(cls, seen: SeenPairs) -> Self:
        """The additive model."""
        n_players = seen.n_players
        return cls(seen.regressors, np.ones(n_players), np.zeros((0, n_players)), np.zeros(len(seen.sizes)))

    @classmethod
    def of_triples(cls, seen: SeenPairs, weights: NDArray[np.float64]) -> Self:
        """Players, two powers of the size, and the best of all triples, each group with a mean square of 1.

        The variance of a triple's coefficient is thought to be the product of its players' weights, which makes the
        covariance of two coalitions a polynomial of their weighted agreement. Its features are its values at some of
        the coalitions, made orthogonal (Williams and Seeger 2001, "Using the Nyström method to speed up kernel
        machines").

        Args:
            weights: `(n_players,)`, positive.
        """
        signs = np.where(seen.coalitions, 1.0, -1.0)
        # Of every stratum in turn.
        order = np.argsort(_ranks_within(seen), kind="stable")
        landmarks = signs[order[:RANK]]
        factor, kept = _pivots(_covariances(landmarks, landmarks, weights))
        landmarks = landmarks[kept]
        triples = solve_lower(factor, _covariances(landmarks, signs, weights)).T
        onto_players = solve_lower(factor, _sums_of_triples(landmarks, weights))
        lack = (1 - 2 * seen.sizes / seen.n_players)[seen.strata, np.newaxis]
        groups = [seen.regressors, np.concatenate([lack, lack**3], axis=1), triples]
        scales = [1 / np.sqrt(max((group**2).sum() / len(group), np.finfo(np.float64).tiny)) for group in groups]
        return cls(
            np.concatenate([group * scale for group, scale in zip(groups, scales, strict=True)], axis=1),
            np.full(seen.n_players, scales[0]),
            onto_players * scales[2],
            _triple_slopes(seen),
        )

    def slopes(self, coefficients: Matrix, seen: SeenPairs) -> Matrix:
        """`(n_strata, n_players)`: the mean, over all pairs of a stratum, of each regressor times a model's value.

        Args:
            coefficients: `(n_strata, n_features)`, of a model for each stratum.
        """
        n_players = len(self.additive)
        single = self.additive * coefficients[:, :n_players]
        several = np.einsum("sk,ki->si", coefficients[:, len(coefficients[0]) - len(self.triples) :], self.triples)
        slopes = seen.spread[:, np.newaxis] * single + self.triple_slopes[:, np.newaxis] * several
        return slopes - slopes.mean(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True)
class Model:
    """Of one target, fitted to all pairs but each: what that leaves.

    Attributes:
        left_out: `(n_seen,)`, each response less its prediction from all other pairs.
        left: `(n_seen,)`, each response less the mean of the predictions by the models that lack a pair of its stratum.
        slopes: `(n_strata, n_players)`, of those models, as in `Basis.slopes`.
        slopes_of_all: of the model that was fitted to all pairs.
        leverages: `(n_seen,)`, how much of its own response is in each pair's prediction by all.
    """

    left_out: NDArray[np.float64]
    left: NDArray[np.float64]
    slopes: Matrix
    slopes_of_all: Matrix
    leverages: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ridge:
    """Ridge regressions of responses on one basis, with several penalties.

    Attributes:
        basis: as it is, of unit variance in each feature.
        noise: `(n_seen,)`, how the variance of what no feature explains is thought to vary.
        features, responses: divided by its root, `(n_seen, n_features)` and `(n_seen, n_targets)`.
        spreads: `(n_trials, n_features)`, roots of the variance that each trial has for each coefficient.
        factors: `(n_trials, n_features, n_features)`, of the normal matrices.
        turned: `(n_trials, n_features, n_targets)`, the factors' inverses times features times responses.
        lost: `(n_trials, n_targets)`, -2 x the logarithm of the likelihood, but for a constant.
    """

    basis: Basis
    seen: SeenPairs
    noise: NDArray[np.float64]
    features: Matrix
    responses: Matrix
    spreads: Matrix
    factors: NDArray[np.float64]
    turned: NDArray[np.float64]
    lost: NDArray[np.float64]

    @classmethod
    def of(
        cls, basis: Basis, seen: SeenPairs, responses: Matrix, spreads: Matrix, penalties: NDArray[np.float64]
    ) -> Self:
        """Fits every trial: spreads `(n_trials, n_features)` and a penalty, `(n_trials,)`, of each."""
        noise = (4 * seen.sizes * (seen.n_players - seen.sizes) / seen.n_players**2)[seen.strata]
        features = basis.features / np.sqrt(noise)[:, np.newaxis]
        scaled = responses / np.sqrt(noise)[:, np.newaxis]
        # einsum, not BLAS or LAPACK: their order of summation depends on threads.
        gram = np.einsum("mk,ml->kl", features, features)
        matrices = spreads[:, :, np.newaxis] * gram * spreads[:, np.newaxis, :]
        places = np.arange(len(gram))
        matrices[:, places, places] += penalties[:, np.newaxis]
        factors = cholesky(matrices)
        turned = spreads[:, :, np.newaxis] * np.einsum("mk,mt->kt", features, scaled)
        for row in places:
            known = np.einsum("hk,hkt->ht", factors[:, row, :row], turned[:, :row])
            turned[:, row] = (turned[:, row] - known) / factors[:, row, row, np.newaxis]
        squares = (scaled**2).sum(axis=0)
        # Rounding may explain more than all.
        unexplained = np.maximum(squares - (turned**2).sum(axis=1), 1e-14 * squares + np.finfo(np.float64).tiny)
        determinants = 2 * np.log(factors[:, places, places]).sum(axis=1) - len(gram) * np.log(penalties)
        lost = len(features) * np.log(unexplained) + determinants[:, np.newaxis]
        return cls(basis, seen, noise, features, scaled, spreads, factors, turned, lost)

    def coefficients(self, trial: int) -> Matrix:
        """`(n_features, n_targets)`."""
        spread = self.spreads[trial][:, np.newaxis]
        return spread * np.einsum("lk,lt->kt", self._inverse_factor(trial), self.turned[trial])

    def models(self, trial: int, targets: list[int]) -> list[Model]:
        """One for each of some targets."""
        inverse = self._inverse_factor(trial) * self.spreads[trial]
        halves = np.einsum("mk,lk->ml", self.features, inverse)
        leverages = np.minimum(np.einsum("ml,ml->m", halves, halves), 1 - 1e-9)
        root = np.sqrt(self.noise)
        found = []
        for target in targets:
            turned = self.turned[trial][:, target]
            left_out = (self.responses[:, target] - np.einsum("ml,l->m", halves, turned)) / (1 - leverages)
            # A model without pair i has the coefficients of that of all less their covariance x feature x left_out.
            shifts = self.seen.means(halves * left_out[:, np.newaxis])
            by_stratum = np.einsum("sl,lk->sk", turned - shifts, inverse)
            predicted = np.einsum("ml,ml->m", halves, (turned - shifts)[self.seen.strata])
            found.append(
                Model(
                    left_out * root,
                    (self.responses[:, target] - predicted) * root,
                    self.basis.slopes(by_stratum, self.seen),
                    self.basis.slopes(np.tile(np.einsum("l,lk->k", turned, inverse), (len(shifts), 1)), self.seen),
                    leverages,
                )
            )
        return found

    def likeliest(self) -> list[Model]:
        """For each target the model of the trial with the greatest likelihood."""
        best = self.lost.argmin(axis=0).tolist()
        by_trial = {trial: [place for place, mine in enumerate(best) if mine == trial] for trial in set(best)}
        models = {
            place: model
            for trial, places in by_trial.items()
            for place, model in zip(places, self.models(trial, places), strict=True)
        }
        return [models[place] for place in range(len(best))]

    def _inverse_factor(self, trial: int) -> Matrix:
        return solve_lower(self.factors[trial], np.eye(len(self.factors[trial])))


def additive_fit(seen: SeenPairs, responses: Matrix) -> Ridge:
    """Of the additive model, all but unpenalized: one trial."""
    basis = Basis.of_players(seen)
    penalty = NO_PENALTY * max((basis.features**2).sum() / seen.n_players, np.finfo(np.float64).tiny)
    return Ridge.of(basis, seen, responses, np.ones((1, seen.n_players)), np.array([penalty]))


def triples_fit(seen: SeenPairs, responses: Matrix, weights: NDArray[np.float64]) -> list[Model]:
    """For each target the model with triples, at the penalty of the greatest likelihood."""
    basis = Basis.of_triples(seen, weights)
    spreads = np.ones((len(PENALTIES), basis.features.shape[1]))
    spreads[:, : seen.n_players] = np.sqrt(ADDITIVE_SPREAD)
    return Ridge.of(basis, seen, responses, spreads, np.array(PENALTIES)).likeliest()


def player_weights(attributions: Matrix) -> NDArray[np.float64] | None:
    """`(n_players,)`: the root mean square, over outputs, of the part of each in attributions `(n_players, n_outputs)`.

    Interactions keep to players that matter alone (heredity; Chipman 1996). All outputs have a say, so that
    attributions of one do not depend on which others were asked for. None where no output has any.
    """
    norms = np.sqrt((attributions**2).sum(axis=0))
    alive = norms > 0
    if not alive.any():
        return None
    parts = np.sqrt(((attributions[:, alive] / norms[alive]) ** 2).mean(axis=1))
    return parts / parts.max() + LEAST_WEIGHT


def _covariances(signs: Matrix, others: Matrix, weights: NDArray[np.float64]) -> Matrix:
    """`(n, n_others)`: sums over all triples of products of their weights and of both coalitions' signs."""
    agreement = np.einsum("mi,oi->mo", signs * weights, others)
    cubed = np.einsum("mi,oi->mo", signs * weights**3, others)
    return (agreement**3 - 3 * agreement * (weights**2).sum() + 2 * cubed) / 6


def _sums_of_triples(signs: Matrix, weights: NDArray[np.float64]) -> Matrix:
    """`(n, n_players)`: sums over the triples that hold a player of products of weights and signs."""
    weighted = signs * weights
    others = weighted.sum(axis=1, keepdims=True) - weighted
    return weighted * (others**2 - ((weights**2).sum() - weights**2)) / 2


def _pivots(matrix: Matrix) -> tuple[Matrix, list[int]]:
    """The lower triangular factor of the rows and columns that the ones before do not explain, and which they are."""
    least = LEAST_PIVOT * max(float(np.trace(matrix)) / max(len(matrix), 1), np.finfo(np.float64).tiny)
    kept: list[int] = []
    factor = np.zeros_like(matrix)
    for row in range(len(matrix)):
        known = np.einsum("ij,j->i", factor[row:, : len(kept)], factor[row, : len(kept)])
        left = matrix[row:, row] - known
        if left[0] > least:
            factor[row:, len(kept)] = left / np.sqrt(left[0])
            kept.append(row)
    return factor[kept, : len(kept)], kept


def _triple_slopes(seen: SeenPairs) -> NDArray[np.float64]:
    """`(n_strata,)`, see `Basis`: from the mean products of two and three signs of the other players."""
    n_others, part = seen.n_players - 1, seen.sizes / seen.n_players

    def twos(n_joined: NDArray[np.intp]) -> NDArray[np.float64]:
        total = 2.0 * n_joined - n_others
        return (total**2 - n_others) / (n_others * (n_others - 1))

    def threes(n_joined: NDArray[np.intp]) -> NDArray[np.float64]:
        total = 2.0 * n_joined - n_others
        return (total**3 - (3 * n_others - 2) * total) / (n_others * (n_others - 1) * (n_others - 2))

    inside, outside = seen.sizes - 1, seen.sizes
    return part * (1 - part) * (twos(inside) + twos(outside) - threes(inside) + threes(outside))


def _ranks_within(seen: SeenPairs) -> NDArray[np.intp]:
    """`(n_seen,)`: how many of its stratum come before each."""
    return np.arange(len(seen.strata)) - (np.cumsum(seen.counts) - seen.counts)[seen.strata]
