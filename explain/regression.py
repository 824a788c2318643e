"""Shapley values by weighted regression on sampled pairs of coalitions: the method `kernel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.attribution import CONFIDENCE, Attributions, Estimate, StopReason
from explain.errors import BudgetTooSmall
from explain.exact import coalition_count
from explain.game import CoalitionMatrix, Game
from explain.interactions import PairSample, of_players, sampled_interactions
from explain.limits import Limits
from explain.linear import inverse
from explain.proxy import Regression
from explain.sampling import PairStream

MAX_PLAYERS = 1024
"""Above this many differing players the regression itself, cubic in their number, is out of reach."""
LEAST_PAIRS = 2
"""Pairs per player below which nothing is solved: the values would follow the luck of the draw."""
PAIRS_FOR_ERRORS = 4
"""Pairs per player below which no standard error is stated: the regression leaves too little to estimate it from."""
GROWTH = 1.25
"""How much longer a run is after each round."""

PAIRS_TIMES_TOLERANCE_SQUARED = 0.0075
"""Pairs per player that a tolerance takes, times its square, since errors fall with the root of the pairs.

Measured as the median over rows on the probability of the demo breast-cancer network (30 columns): 4 pairs per player
at 0.05, 12 at 0.02, 75 at 0.01, 300 at 0.005. Its log-odds and the demo diabetes network need far fewer.
"""


def expected_cost(n_players: int, n_background: int, tolerance: float) -> float:
    """Rows that `kernel` can be expected to evaluate until its largest half-width is `tolerance` x S."""
    per_player = max(PAIRS_FOR_ERRORS, PAIRS_TIMES_TOLERANCE_SQUARED / tolerance**2)
    all_pairs = coalition_count(n_players) / 2 - 1
    return 2.0 * n_background * min(per_player * n_players, all_pairs)


def kernel(
    game: Game,
    targets: Sequence[int],
    *,
    seed: int,
    limits: Limits,
    slice_rows: int,
    interactions: bool = False,
    triples: bool = False,
) -> Estimate:
    """Shapley values of the asked outputs, by regression on sampled coalitions.

    Shapley values solve a weighted least squares problem over all coalitions, under the constraint that they sum to
    v(all) - v(none) (Charnes et al. 1988; Lundberg and Lee 2017, "A unified approach to interpreting model
    predictions", theorem 2). Here it is solved over coalitions drawn in pairs with their complements, without
    replacement, by their leverage scores (Musco and Witter 2024, "Provably accurate Shapley value estimation via
    leverage score sampling"), in the order of `PairStream`: a longer run begins with the pairs of a shorter one.

    The standard error is that of the estimate itself. Sizes are strata, so its variance is the sum, over the strata,
    of that of what a pair's residual adds to an attribution, times 1 - the part of the stratum that was seen (Särndal
    et al. 1992, "Model assisted survey sampling", result 6.6.1), with each squared residual divided by 1 - its
    leverage (HC2; MacKinnon and White 1985). It is NaN below 4 pairs per player, and 0 when every coalition was seen;
    then the estimate is that of `exact`. Half-widths use Student's t.

    With `triples`, what three players owe to each other is learned beside, by ridge regression on features that no
    Shapley value depends on (`explain.proxy`), so that it no longer disturbs. There are then two estimates of the
    variance: that of what each pair's difference from its prediction by all others would add to a regression on players
    alone, and of what it adds to the attributions (the jackknife; Efron and Stein 1981). The smaller total is stated.
    It fits all players together, not each alone: the ridge leaves a bias that no variance knows of, and the interval of
    a player in many triples can cover far less than it says. While pairs are unseen, attributions are then linear in
    the model only to within their errors.

    Players that equal the whole background play no part: they get 0.

    Args:
        targets: the outputs to explain. They share all evaluations.
        seed: the same seed, game and number of evaluations give the same bits.
        slice_rows: the most rows in one call of the model. How rows are cut into calls depends on nothing else.
        interactions: whether to give those of every two players too, from the same evaluations. The tolerance is that
            of the attributions.
        triples: whether to learn what triples of players hide. Far more accurate, with less honest errors.

    Returns:
        An `Estimate` over the asked targets.

    Raises:
        BudgetTooSmall: when the budget does not cover 2 pairs per player, or all pairs where there are fewer.
    """
    playing, chosen = game.playing, list(targets)
    everyone = np.arange(len(game.background.rows))
    rows_per_pair = 2 * len(everyone)
    gains = game.value - game.background.base_values
    scales = game.scales[chosen]
    pairs = PairStream(len(playing), seed)
    rounds = _Rounds(len(playing), pairs.n_pairs, rows_per_pair, slice_rows, limits.budget)
    coalitions, strata = np.zeros((0, len(playing)), dtype=bool), np.zeros(0, dtype=np.intp)
    differences, evens = np.zeros((0, len(gains))), np.zeros((0, len(chosen)))
    wanted = rounds.first()
    while True:
        fresh, their_strata = pairs.take(wanted - len(coalitions))
        both = np.concatenate([fresh, ~fresh])
        values = game.coalition_values(both, playing, everyone, slice_rows=slice_rows)
        coalitions = np.concatenate([coalitions, fresh])
        strata = np.concatenate([strata, their_strata])
        differences = np.concatenate([differences, values[: len(fresh)] - values[len(fresh) :]])
        middles = (values[: len(fresh)] + values[len(fresh) :]) / 2
        evens = np.concatenate([evens, middles[:, chosen]])
        # Strata together, each in the order of its draws: sums then do not depend on how pairs fell into rounds.
        order = np.argsort(strata, kind="stable")
        fit = _fit(pairs, coalitions[order], strata[order], differences[order], gains, chosen, triples=triples)
        n_seen = len(coalitions)
        wanted = rounds.after(n_seen)
        stop: StopReason | None = "exact"
        if n_seen < pairs.n_pairs:
            stop = limits.stop_reason(
                # A half-width of NaN is within no tolerance.
                within=bool((fit.half_widths <= limits.tolerance * scales).all()),
                evaluations=n_seen * rows_per_pair,
                next_round=max(wanted - n_seen, 1) * rows_per_pair,
            )
        if stop is not None:
            break
    joint = None
    if interactions:
        ends = (game.value + game.background.base_values)[chosen] / 2
        seen = PairSample(coalitions[order], evens[order], ends, strata[order], pairs.stratum_sizes)
        joint = of_players(sampled_interactions(seen), playing, game.n_players)
    return Estimate(
        method="kernel",
        estimand="shapley",
        attributions=_of_all(game, fit.attributions),
        standard_errors=_of_all(game, fit.standard_errors),
        half_widths=_of_all(game, fit.half_widths),
        values=game.value[chosen],
        base_values=game.background.base_values[chosen],
        scales=scales,
        evaluations=n_seen * rows_per_pair,
        stop_reason=stop,
        interactions=joint,
    )


@dataclass(frozen=True, slots=True)
class _Rounds:
    """How many pairs are seen after each round. Rounds fill their slices, where pairs and budget are left."""

    n_players: int
    n_pairs: int
    rows_per_pair: int
    slice_rows: int
    budget: int | None

    def first(self) -> int:
        least = min(LEAST_PAIRS * self.n_players, self.n_pairs)
        if self.budget is not None and least * self.rows_per_pair > self.budget:
            raise BudgetTooSmall("kernel", least * self.rows_per_pair, self.budget)
        return self._filled(least)

    def after(self, n_seen: int) -> int:
        return self._filled(max(PAIRS_FOR_ERRORS * self.n_players, int(n_seen * GROWTH) + 1))

    def _filled(self, n_pairs: int) -> int:
        per_slice = max(self.slice_rows // self.rows_per_pair, 1)
        affordable = self.n_pairs if self.budget is None else self.budget // self.rows_per_pair
        return min(-(-n_pairs // per_slice) * per_slice, self.n_pairs, affordable)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Of the players that play, each `(n_playing, n_targets)`."""

    attributions: Attributions
    standard_errors: Attributions
    half_widths: Attributions


def _fit(
    pairs: PairStream,
    coalitions: CoalitionMatrix,
    strata: NDArray[np.intp],
    differences: NDArray[np.float64],
    gains: NDArray[np.float64],
    targets: list[int],
    *,
    triples: bool,
) -> _Fit:
    """Solves the regression and estimates its error.

    In a game of gains, v(S) - v(none) - |S|/n (v(all) - v(none)), the attributions' deviations from an even share are
    the regression on indicators without their mean. A coalition and its complement then have opposite regressors and
    the same weight: one observation of half the difference of their values.

    Args:
        coalitions: `(n_seen, n_players)`, strata together.
        strata: `(n_seen,)`.
        differences: `(n_seen, n_outputs)`, v(coalition) - v(complement).
        gains: `(n_outputs,)`, v(all) - v(none).
        targets: the outputs that are asked for.
        triples: whether they are learned.
    """
    n_players = pairs.n_players
    even = np.tile(gains / max(n_players, 1), (n_players, 1))
    if n_players < 2:
        nothing = np.zeros((n_players, len(targets)))
        return _Fit(even[:, targets], nothing, nothing)
    counts = np.bincount(strata, minlength=len(pairs.sizes))
    parts = (pairs.sizes / n_players)[strata, np.newaxis]
    regressors = coalitions - parts
    responses = differences / 2 - (parts - 0.5) * gains
    # The kernel weight (n-1) / (C(n,s) s (n-s)), divided by the probability of having been drawn.
    weights = (pairs.shares / (pairs.sizes * (n_players - pairs.sizes) * np.maximum(counts, 1)))[strata]
    weighted = weights[:, np.newaxis] * regressors
    # einsum, not BLAS or LAPACK: their order of summation depends on threads.
    gram = np.einsum("mi,mj->ij", weighted, regressors)
    # Regressors are orthogonal to the even direction; filling it in makes the matrix regular and changes no solution.
    solver = inverse(gram + np.trace(gram) / (n_players * (n_players - 1)))
    # what each observation adds to each attribution per unit: (n_seen, n_players)
    influences = np.einsum("mi,ij->mj", weighted, solver)
    deviations = np.einsum("mi,mt->it", influences, responses)
    residuals = responses - np.einsum("mi,it->mt", regressors, deviations)
    leverages = np.einsum("mi,mi->m", influences, regressors)
    attributions = (even + deviations)[:, targets]
    plain = residuals[:, targets] / np.sqrt(np.maximum(1 - leverages, 1e-6))[:, np.newaxis]
    variances = _variances(pairs, counts, influences, plain)
    if triples and len(coalitions) < pairs.n_pairs:
        signs = np.where(coalitions, 1.0, -1.0)
        regression = Regression(signs, regressors, weights, leverages, influences, even + deviations, residuals)
        for place, correction in enumerate(regression.corrections(targets)):
            if correction is None:
                continue
            attributions[:, place] -= correction.attributions
            left_out = correction.left_out[:, np.newaxis]
            # Two estimates of the error, neither of which is too small on average: see `kernel`.
            crossed, jackknife = (
                _variances(pairs, counts, influence, left_out)[:, 0]
                for influence in (influences, correction.influences)
            )
            variances[:, place] = min(crossed, jackknife, key=np.sum)
    if len(coalitions) < min(pairs.n_pairs, PAIRS_FOR_ERRORS * n_players):
        variances = np.full_like(variances, np.nan)
    errors = np.sqrt(variances)
    return _Fit(attributions, errors, _quantile(pairs, counts) * errors)


def _variances(
    pairs: PairStream,
    counts: NDArray[np.intp],
    influences: NDArray[np.float64],
    residuals: NDArray[np.float64],
) -> Attributions:
    """`(n_players, n_targets)`: of sums of influences times residuals over strata drawn without replacement."""
    variances = np.zeros((pairs.n_players, residuals.shape[1]))
    ends = np.cumsum(counts).tolist()
    for end, count, size in zip(ends, counts.tolist(), pairs.stratum_sizes, strict=True):
        # One pair tells nothing of the scatter, but no run with so few states an error.
        if count == size or count < 2:
            continue
        mine, theirs = influences[end - count : end], residuals[end - count : end]
        squares = np.einsum("mi,mt->it", mine**2, theirs**2)
        sums = np.einsum("mi,mt->it", mine, theirs)
        variances += (1 - count / size) * count / (count - 1) * np.maximum(squares - sums**2 / count, 0)
    return variances


def _quantile(pairs: PairStream, counts: NDArray[np.intp]) -> float:
    """From a standard error to a 95 % half-width: Student's t, with the pairs of sampled strata less the unknowns."""
    from scipy.stats import t

    sampled = sum(count for count, size in zip(counts.tolist(), pairs.stratum_sizes, strict=True) if count < size)
    return float(t.ppf((1 + CONFIDENCE) / 2, max(sampled - (pairs.n_players - 1), 1)))


def _of_all(game: Game, values: Attributions) -> Attributions:
    everyone = np.zeros((game.n_players, values.shape[1]))
    everyone[game.playing] = values
    return everyone
