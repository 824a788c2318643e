"""Shapley interaction index of two players, from all coalitions or from a sample of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Interactions
from explain.game import CoalitionMatrix
from explain.pair_model import PairModel, fit_pair_models, ranks_within

PairMatrix = NDArray[np.float64]
"""`(n_players, n_players, n_targets)`, symmetric; the diagonal means nothing."""

SLICE_COALITIONS = 2**14
FOLDS = (4, 2)
"""Into how many parts a sample is split: the first where each has two pairs of every size of coalition."""
PRIOR_PAIRS = 4
"""Pairs that count as seen of each size beside those that were, with the size's mean error."""
PRIOR_COALITIONS = 12
"""Coalitions of a size that count as seen beside those that were, each off by the mean deviation of all two players.

Few coalitions hold both of two players or neither, so that their own scatter says little. Without this, 1.96 standard
errors held 91 to 93 % of the truth on 12 and 20 players (`benchmarks/calibration.py`); with it, 94 to 96 %.
"""


def exact_interactions(coalitions: CoalitionMatrix, values: NDArray[np.float64]) -> PairMatrix:
    """The Shapley interaction index of order 2 of every two players, from the values of all coalitions.

    Grabisch and Roubens 1999, "An axiomatic approach to the concept of interaction among players in cooperative games",
    definition 2: the sum over coalitions T without a and b of t! (n-t-2)! / (n-1)! times
    v(T + a + b) - v(T + a) - v(T + b) + v(T).

    Args:
        coalitions: `(2^n_players, n_players)`.
        values: `(2^n_players, n_targets)`.
    """
    n_players = coalitions.shape[1]
    weights = _weights(n_players, coalitions.sum(axis=1))
    total = np.zeros((n_players, n_players, values.shape[1]))
    for start in range(0, len(coalitions), SLICE_COALITIONS):
        part = slice(start, start + SLICE_COALITIONS)
        total += _pair_sums(coalitions[part], [weight[part, np.newaxis] * values[part] for weight in weights])
    return total


@dataclass(frozen=True)
class PairSample:
    """Coalitions of which their value and their complement's is known: some of every size, drawn without replacement.

    Attributes:
        coalitions: `(n_seen, n_players)`, the smaller of each pair, in the order in which they were drawn.
        evens: `(n_seen, n_targets)`, half the sum of the values of a coalition and its complement.
        ends: `(n_targets,)`, half the sum of the values of nobody and everybody.
        strata: `(n_seen,)`, the size of a coalition - 1.
        stratum_sizes: how many pairs there are of each size.
    """

    coalitions: CoalitionMatrix
    evens: NDArray[np.float64]
    ends: NDArray[np.float64]
    strata: NDArray[np.intp]
    stratum_sizes: list[int]


def sampled_interactions(sample: PairSample) -> tuple[PairMatrix, PairMatrix]:
    """The Shapley interaction index of order 2 of every two players, and its standard error, from sampled coalitions.

    A coalition and its complement have the same weight in the index, so it depends on half the sum of their values
    alone. A model in which players interact two by two is fitted to these (ridge regression, in its dual form); its
    interactions are known, and to them are added those of what it leaves, estimated by size of coalition from their
    part of the sample (difference estimator; Särndal et al. 1992, "Model assisted survey sampling", section 6.3). Each
    part of the sample is set against a model that was fitted to the other parts, so that the estimate is unbiased, as
    the estimator of Fumagalli et al. 2023 ("SHAP-IQ", theorem 4.1) is, and the better the model, the smaller its error.

    Returns:
        Interactions and standard errors: 0 where every coalition was seen; NaN where a size was seen in part, but in
        less than 4 pairs of coalitions.
    """
    strata, sizes = sample.strata, sample.stratum_sizes
    n_players = sample.coalitions.shape[1]
    counts = np.bincount(strata, minlength=len(sizes))
    partly = np.array([count < size for count, size in zip(counts.tolist(), sizes, strict=True)], dtype=bool)
    least = int(counts[partly].min()) if partly.any() else 0
    n_folds = next((folds for folds in FOLDS if least >= 2 * folds), 1)
    folds = ranks_within(strata) % n_folds
    signs = np.where(sample.coalitions, 1.0, -1.0)
    none = PairModel(np.zeros((n_players, n_players, sample.evens.shape[1])), np.zeros((len(sizes), len(sample.ends))))
    models = fit_pair_models(signs, sample.evens, strata, folds) if n_folds > 1 else [none]
    values, variances = np.zeros_like(none.terms), np.zeros_like(none.terms)
    weights = _weights(n_players, strata + 1)
    # Sizes that were seen as a whole are summed as they are, whatever their level.
    models = [PairModel(model.terms, np.where(partly[:, np.newaxis], model.levels, 0)) for model in models]
    lefts = [2 * (sample.evens - model.of(signs, strata)) for model in models]
    mean_left = np.mean(lefts, axis=0)
    for fold, (model, left) in enumerate(zip(models, lefts, strict=True)):
        # Of the levels, only that of single players beside nobody's bends the index.
        values += 4 * model.terms + 2 * (sample.ends - model.ends - model.levels[:1].sum(axis=0)) / max(
            n_players - 1, 1
        )
        whole = ~partly[strata]
        values += _pair_sums(sample.coalitions[whole], [weight[whole, np.newaxis] * left[whole] for weight in weights])
        for stratum in np.flatnonzero(partly).tolist():
            mine = (strata == stratum) & (folds == fold)
            n_mine, size = int(mine.sum()), sizes[stratum]
            # Pairs left out of a model are like those that were not seen. Those that were are known.
            part = counts[stratum] / size
            known = part * mean_left[mine] + (1 - part) * left[mine]
            added = [weight[mine, np.newaxis] * known for weight in weights]
            values += size / max(n_mine, 1) * _pair_sums(sample.coalitions[mine], added)
            factors = [float(weight[mine][0]) for weight in weights] if n_mine else [0.0, 0.0, 0.0]
            scatter = _mean_squares(sample.coalitions[mine], left[mine] ** 2, factors, stratum + 1)
            variances += (1 - part) * size**2 / max(n_mine, 1) * scatter
    if partly.any() and n_folds == 1:
        variances[:] = np.nan
    return values / len(models), np.sqrt(variances) / len(models)


def of_players(matrices: tuple[PairMatrix, PairMatrix], playing: NDArray[np.intp], n_players: int) -> Interactions:
    """Interactions and errors of every two of all players, from those of the players that play."""
    everyone = np.zeros((2, n_players, n_players, matrices[0].shape[2]))
    everyone[:, playing[:, np.newaxis], playing] = matrices
    return Interactions.of_matrices(*everyone)


def _mean_of_pairs(matrix: PairMatrix) -> NDArray[np.float64]:
    """`(n_targets,)`, over every two players."""
    first, second = np.triu_indices(len(matrix), 1)
    return matrix[first, second].mean(axis=0)


def _weights(n_players: int, sizes: NDArray[np.intp]) -> list[NDArray[np.float64]]:
    """Of the values of coalitions of some sizes, for two players of whom neither, one or both are in: each `(n,)`."""
    # 1 / ((n-1) C(n-2, t)) is t! (n-t-2)! / (n-1)!, without the factorials.
    chances = [1.0 / ((n_players - 1) * math.comb(n_players - 2, others)) for others in range(n_players - 1)]
    padded = np.array([0.0, 0.0, *chances, 0.0, 0.0])
    return [padded[sizes + 2], -padded[sizes + 1], padded[sizes]]


def _mean_squares(
    coalitions: CoalitionMatrix, squares: NDArray[np.float64], factors: list[float], size: int
) -> PairMatrix:
    """For every two players, the mean square of a factor times what a model leaves of a coalition of one size.

    The factor depends on whether neither, one or both of the two are in it. The mean squares of the three cases are
    taken apart, each together with `PRIOR_PAIRS` more of the mean of all: a case that was hardly met by chance is not
    thought to be known well.

    Args:
        squares: `(n_coalitions, n_targets)`, of what is left.
        factors: of the three cases.
    """
    n_coalitions, n_players = coalitions.shape
    joined = coalitions.astype(np.float64)
    one_of_two = size * (n_players - size) / (n_players * (n_players - 1))
    both_in = size * (size - 1) / (n_players * (n_players - 1))
    chances = (1 - 2 * one_of_two - both_in, 2 * one_of_two, both_in)
    prior = PRIOR_PAIRS * squares.sum(axis=0) / max(n_coalitions, 1)

    def by_case(amounts: NDArray[np.float64]) -> list[PairMatrix]:
        both = np.stack(
            [np.einsum("mi,mj->ij", joined * column[:, np.newaxis], joined) for column in amounts.T], axis=2
        )
        alone = np.einsum("mi,mt->it", joined, amounts)
        one = alone[:, np.newaxis] + alone - 2 * both
        return [amounts.sum(axis=0) - one - both, one, both]

    total = np.zeros((n_players, n_players, squares.shape[1]))
    for chance, factor, found, met in zip(
        chances, factors, by_case(squares), by_case(np.ones((n_coalitions, 1))), strict=True
    ):
        total += chance * factor**2 * (np.maximum(found, 0) + prior) / (met + PRIOR_PAIRS)
    return total


def _pair_sums(coalitions: CoalitionMatrix, added: list[NDArray[np.float64]]) -> PairMatrix:
    """For every two players, sums over coalitions of what each adds when neither, one or both of the two are in it.

    Args:
        coalitions: `(n_coalitions, n_players)`.
        added: three times `(n_coalitions, n_targets)`.
    """
    neither, one, both = added
    joined = coalitions.astype(np.float64)
    singles = np.einsum("mi,mt->it", joined, one - neither)
    bends = both - 2 * one + neither
    doubles = [np.einsum("mi,mj->ij", joined * bends[:, [target]], joined) for target in range(bends.shape[1])]
    return neither.sum(axis=0) + singles[:, np.newaxis] + singles + np.stack(doubles, axis=2)
