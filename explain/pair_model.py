"""A model of a game in which players interact two by two, fitted to half sums of the values of complements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Signs = NDArray[np.float64]
"""`(n_pairs, n_players)`: 1 where a player is in a coalition, -1 where it is in the complement."""

MAX_FITTED = 2000
"""Pairs that a model is fitted to, at most: the fit takes their square in memory."""
SHRINKAGES = (1e-5, 1e-2, 1.0)
"""Penalties on the coefficients, as parts of the number of coefficients; what predicts best is taken."""
MAX_STEPS = 80
"""Of conjugate gradients. Ending early shrinks as well, and is the same every time."""


@dataclass(frozen=True)
class PairModel:
    """Half the sum of the values of a coalition and its complement, as a level of their size plus terms of two players.

    Attributes:
        terms: `(n_players, n_players, n_targets)`, what two players add when they are on the same side and take away
            when they are not; symmetric, with a diagonal of 0.
        levels: `(n_strata, n_targets)`.
    """

    terms: NDArray[np.float64]
    levels: NDArray[np.float64]

    def of(self, signs: Signs, strata: NDArray[np.intp]) -> NDArray[np.float64]:
        """`(n_pairs, n_targets)`."""
        halves = [
            np.einsum("mi,mi->m", np.einsum("mi,ij->mj", signs, self.terms[..., target]), signs)
            for target in range(self.terms.shape[2])
        ]
        return self.levels[strata] + np.stack(halves, axis=1) / 2

    @property
    def ends(self) -> NDArray[np.float64]:
        """`(n_targets,)`, of nobody and everybody, without a level."""
        return self.terms.sum(axis=(0, 1)) / 2


def fit_pair_models(
    signs: Signs, evens: NDArray[np.float64], strata: NDArray[np.intp], folds: NDArray[np.intp]
) -> list[PairModel]:
    """For each fold a model fitted to the others, by ridge regression (in its dual form, for there are many terms).

    Args:
        evens: `(n_pairs, n_targets)`, what is modelled.
        strata: `(n_pairs,)`, the size of the smaller coalition - 1. Each has a level of its own.
        folds: `(n_pairs,)`, each of them with a pair of every stratum.
    """
    n_players = signs.shape[1]
    n_terms = n_players * (n_players - 1) // 2
    fitted = np.argsort(ranks_within(strata), kind="stable")[:MAX_FITTED]
    # the mean over a stratum of the product of two players' signs
    sizes = np.arange(1, strata.max() + 2)
    stratum_means = ((2.0 * sizes - n_players) ** 2 - n_players) / (2 * n_terms)
    means = stratum_means[strata]
    # Products of signs are whole numbers, so that a BLAS product is exact in whatever order it sums.
    products = ((signs[fitted] @ signs[fitted].T) ** 2 - n_players) / 2
    # Levels are fitted with the terms, as freely as all terms together: a sample's own mean is not its stratum's.
    same_stratum = strata[fitted][:, np.newaxis] == strata[fitted]
    kernel = products + n_terms * (same_stratum - np.outer(means[fitted], means[fitted]))
    candidates: list[list[PairModel]] = []
    scores = np.zeros((len(SHRINKAGES), evens.shape[1]))
    for fold in range(folds.max() + 1):
        train = folds[fitted] != fold
        mine = fitted[train]
        counts = np.maximum(np.bincount(strata[mine], minlength=len(sizes)), 1)
        centres = _stratum_sums(evens[mine], strata[mine], len(sizes)) / counts[:, np.newaxis]
        models = []
        for number, shrinkage in enumerate(SHRINKAGES):
            inner = kernel[np.ix_(train, train)]
            inner[np.diag_indices_from(inner)] += shrinkage * n_terms
            multipliers = _solve(inner, evens[mine] - centres[strata[mine]])
            terms = _terms(signs[mine], means[mine], multipliers)
            levels = centres + n_terms * _stratum_sums(multipliers, strata[mine], len(centres))
            model = PairModel(terms, levels - stratum_means[:, np.newaxis] * terms.sum(axis=(0, 1)) / 2)
            held_out = folds == fold
            scores[number] += ((evens[held_out] - model.of(signs[held_out], strata[held_out])) ** 2).sum(axis=0)
            models.append(model)
        candidates.append(models)
    best = scores.argmin(axis=0).tolist()
    return [
        PairModel(
            np.stack([models[number].terms[..., target] for target, number in enumerate(best)], axis=2),
            np.stack([models[number].levels[:, target] for target, number in enumerate(best)], axis=1),
        )
        for models in candidates
    ]


def ranks_within(strata: NDArray[np.intp]) -> NDArray[np.intp]:
    """`(n_pairs,)`: how many of its stratum come before each."""
    order = np.argsort(strata, kind="stable")
    firsts = np.searchsorted(strata[order], np.arange(strata.max(initial=0) + 1))
    ranks = np.empty(len(strata), dtype=np.intp)
    ranks[order] = np.arange(len(strata)) - firsts[strata[order]]
    return ranks


def _terms(signs: Signs, means: NDArray[np.float64], multipliers: NDArray[np.float64]) -> NDArray[np.float64]:
    products = [np.einsum("mi,mj->ij", signs * column[:, np.newaxis], signs) for column in multipliers.T]
    terms = np.stack(products, axis=2) - np.einsum("m,mt->t", means, multipliers)
    terms[np.diag_indices(signs.shape[1])] = 0
    return terms


def _stratum_sums(values: NDArray[np.float64], strata: NDArray[np.intp], n_strata: int) -> NDArray[np.float64]:
    sums = np.zeros((n_strata, values.shape[1]))
    np.add.at(sums, strata, values)
    return sums


def _solve(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Conjugate gradients for a positive definite matrix, each column on its own (Hestenes and Stiefel 1952)."""
    solution, residual = np.zeros_like(right), right.copy()
    direction = residual.copy()
    square = np.einsum("mt,mt->t", residual, residual)
    first = square
    for _ in range(MAX_STEPS):
        if (square <= 1e-12 * first).all():
            break
        # einsum, not BLAS: its order of summation does not depend on threads.
        image = np.einsum("mn,nt->mt", matrix, direction)
        length = _ratio(square, np.einsum("mt,mt->t", direction, image))
        solution += length * direction
        residual -= length * image
        square, before = np.einsum("mt,mt->t", residual, residual), square
        direction = residual + _ratio(square, before) * direction
    return solution


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
