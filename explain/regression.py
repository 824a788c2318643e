"""Shapley values by weighted regression on sampled pairs of coalitions: the method `kernel`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Attributions, Estimate, StopReason, student_t_quantile
from explain.errors import BudgetTooSmall
from explain.exact import coalition_count
from explain.game import Game
from explain.interactions import PairSample, of_players, sampled_interactions
from explain.limits import Limits
from explain.linear import Matrix
from explain.proxy import MAX_PLAYERS_OF_TRIPLES, Model, additive_fit, player_weights, triples_fit
from explain.sampling import PairStream, SeenPairs

MAX_PLAYERS = 1024
"""Above this many differing players the regression itself, cubic in their number, is out of reach."""
LEAST_PAIRS = 2
"""Pairs per player below which nothing is solved: the values would follow the luck of the draw."""
PAIRS_FOR_ERRORS = 4
"""Pairs per player below which no standard error is stated: the regression leaves too little to estimate it from."""
PRIOR_PAIRS = 4
"""Pairs that count as seen of each stratum beside those that were, with the stratum's mean error."""
PENALIZED_PART = 0.75
"""Degrees of freedom that a penalized model is thought to take from what it leaves, as a part of its leverages.

With all of them, intervals of 4 pairs per player of a smooth network held 99.8 % of the truth; with half, those of 10
pairs 92.7 %.
"""
GROWTH = (1.25, 1.6)
"""How much longer a run is after each round: the nearer to the tolerance, the less."""

PAIRS_TIMES_TOLERANCE_SQUARED = 0.0013
"""Pairs per player that a tolerance takes, times its square, since errors fall with the root of the pairs.

Measured as the median over rows on the probability of a breast-cancer network (30 columns): 5 pairs per player at 0.02,
13 at 0.01. Log-odds and a diabetes network need fewer.
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
) -> Estimate:
    """Shapley values of the asked outputs, by regression on sampled coalitions.

    Shapley values solve a weighted least squares problem over all coalitions, under the constraint that they sum to
    v(all) - v(none) (Charnes et al. 1988; Lundberg and Lee 2017, "A unified approach to interpreting model
    predictions", theorem 2). Here it is solved over coalitions drawn in pairs with their complements, without
    replacement, by their leverage scores (Musco and Witter 2024, "Provably accurate Shapley value estimation via
    leverage score sampling"), in the order of `PairStream`: a longer run begins with the pairs of a shorter one.

    Two models of the game are fitted to the pairs: an additive one, and one in which triples of players interact
    (`explain.proxy`). Their Shapley values are known; added to these are those of what a model leaves, estimated from
    each pair by the model that was fitted without that pair (Witter et al. 2025, "Regression-adjusted Monte Carlo
    estimators for Shapley values and probabilistic values"; leaving out one in closed form). So the estimate has no
    bias, however wrong the model is, but for what the choice of its few parameters adds; the better the model, the
    smaller the error. The model that states the smaller variance is taken.

    The variance is that of the estimate itself. Sizes are strata: it is the sum, over the strata, of that of what a
    pair's difference from its prediction adds to an attribution, times 1 - the part of the stratum that was seen
    (Särndal et al. 1992, "Model assisted survey sampling", section 6.3). The standard error is NaN below 4 pairs per
    player, and 0 when every coalition was seen; then the estimate is that of `exact`. Half-widths use Student's t, with
    the pairs less what the model took of them.

    While pairs are unseen, attributions are linear in the model only to within their errors.

    Players that equal the whole background play no part: they get 0.

    Args:
        targets: the outputs to explain. They share all evaluations.
        seed: the same seed, game and number of evaluations give the same bits.
        slice_rows: the most rows in one call of the model. How rows are cut into calls depends on nothing else.
        interactions: whether to give those of every two players too, from the same evaluations. The tolerance is that
            of the attributions.

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
    tolerated = limits.tolerance * scales
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
        seen = pairs.seen(coalitions[order], strata[order])
        fitted = partial(_fit, seen, differences[order], gains, chosen, tolerated)
        n_seen = len(coalitions)
        # Nothing is fitted to find what is known: there are no errors yet, or no tolerance that they could reach.
        fit, excess = None, math.inf if limits.tolerance == 0 else math.nan
        if limits.tolerance > 0 and n_seen >= min(PAIRS_FOR_ERRORS * len(playing), pairs.n_pairs):
            fit = fitted()
            excess = _excess(fit.half_widths, tolerated)
        wanted = rounds.after(n_seen, excess)
        stop: StopReason | None = "exact"
        if n_seen < pairs.n_pairs:
            stop = limits.stop_reason(
                # An excess of NaN is within no tolerance.
                within=excess <= 1,
                evaluations=n_seen * rows_per_pair,
                next_round=max(wanted - n_seen, 1) * rows_per_pair,
            )
        if stop is not None:
            break
    fit = fit or fitted()
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


def _excess(half_widths: Attributions, tolerated: NDArray[np.float64]) -> float:
    """The largest half-width as a multiple of what is tolerated; NaN where one is not stated."""
    untold = np.where(half_widths > 0, np.inf, half_widths)
    return float(np.divide(half_widths, tolerated, out=untold, where=tolerated > 0).max(initial=0))


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

    def after(self, n_seen: int, excess: float) -> int:
        """After so many, and a largest half-width of so many times the tolerance.

        Errors fall with the root of the pairs, or faster where triples are being learned.
        """
        growth = GROWTH[1] if math.isnan(excess) else min(max(excess, GROWTH[0]), GROWTH[1])
        return self._filled(max(PAIRS_FOR_ERRORS * self.n_players, int(n_seen * growth) + 1))

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
    seen: SeenPairs,
    differences: Matrix,
    gains: NDArray[np.float64],
    targets: list[int],
    tolerated: NDArray[np.float64],
) -> _Fit:
    """Attributions and their errors from the pairs that were seen.

    In a game of gains, v(S) - v(none) - |S|/n (v(all) - v(none)), the attributions' deviations from an even share are
    the regression on indicators without their mean. A coalition and its complement then have opposite regressors and
    the same weight: one observation of half the difference of their values.

    Args:
        differences: `(n_seen, n_outputs)`, v(coalition) - v(complement).
        gains: `(n_outputs,)`, v(all) - v(none).
        targets: the outputs that are asked for.
        tolerated: `(n_targets,)`, half-widths that are good enough for triples not to be learned.
    """
    n_players = seen.n_players
    even = np.tile(gains / max(n_players, 1), (n_players, 1))
    nothing = np.zeros((n_players, len(targets)))
    if n_players < 2:
        return _Fit(even[:, targets], nothing, nothing)
    parts = (seen.sizes / n_players)[seen.strata, np.newaxis]
    responses = differences / 2 - (parts - 0.5) * gains
    # The population's normal matrix is known, so that each stratum adds its mean of regressors times responses.
    factors = 2 * n_players * seen.shares / (seen.sizes * (n_players - seen.sizes))
    if (seen.counts == seen.stratum_sizes).all():
        products = np.einsum("mi,mt->mit", seen.regressors, responses[:, targets])
        means = seen.sums(products) / seen.counts[:, np.newaxis, np.newaxis]
        return _Fit(even[:, targets] + np.einsum("s,sit->it", factors, means), nothing, nothing)
    additive = additive_fit(seen, responses)
    found = [_corrected(seen, factors, model) for model in additive.models(0, targets)]
    weights = player_weights(even + additive.coefficients(0))
    enough = all(each.half_widths.max() <= width for each, width in zip(found, tolerated.tolist(), strict=True))
    if not enough and weights is not None and n_players <= MAX_PLAYERS_OF_TRIPLES:
        others = [_corrected(seen, factors, model) for model in triples_fit(seen, responses[:, targets], weights)]
        found = [min(pair, key=lambda each: each.variances.sum()) for pair in zip(found, others, strict=True)]
    deviations, variances, widths = (
        np.stack(columns, axis=1)
        for columns in zip(*((each.deviations, each.variances, each.half_widths) for each in found), strict=True)
    )
    errors = np.sqrt(variances)
    if len(seen.strata) < PAIRS_FOR_ERRORS * n_players:
        errors, widths = np.full_like(errors, np.nan), np.full_like(widths, np.nan)
    return _Fit(even[:, targets] + deviations, errors, widths)


@dataclass(frozen=True, slots=True)
class _Corrected:
    """Of one target and one model.

    Attributes:
        deviations, variances: `(n_players,)`.
        quantile: from a standard error to a 95 % half-width.
    """

    deviations: NDArray[np.float64]
    variances: NDArray[np.float64]
    quantile: float

    @property
    def half_widths(self) -> NDArray[np.float64]:
        return self.quantile * np.sqrt(self.variances)


def _corrected(seen: SeenPairs, factors: NDArray[np.float64], model: Model) -> _Corrected:
    """What the model says of the attributions, plus what it leaves of the pairs, estimated by stratum.

    A pair that was left out of a model and a pair that was not seen are alike to it. So the mean of what is left of
    the unseen ones is estimated, without bias, by what is left of those that were seen, each by the model without it;
    and the seen ones are known.
    """
    part = seen.counts / seen.stratum_sizes
    mine = part[seen.strata]
    left = mine * model.left + (1 - mine) * model.left_out
    means = seen.means(seen.regressors * left[:, np.newaxis])
    added = model.slopes + means if len(seen.strata) >= PAIRS_FOR_ERRORS * seen.n_players else model.slopes_of_all
    deviations = np.einsum("s,si->i", factors, added)
    scatter = factors**2 * (1 - part) / np.maximum(seen.counts, 1)
    variances = np.einsum("s,si->i", scatter, _mean_squares(seen, model.left_out**2))
    sampled = part[seen.strata] < 1
    # What is left out keeps more of its freedom than residuals do where coefficients are penalized.
    additive = seen.n_players - 1
    taken = additive + PENALIZED_PART * max(float(model.leverages[sampled].sum()) - additive, 0)
    free = float(sampled.sum()) - taken
    return _Corrected(deviations, variances, student_t_quantile(max(free, 1)))


def _mean_squares(seen: SeenPairs, squares: NDArray[np.float64]) -> Matrix:
    """`(n_strata, n_players)`: means of squared regressors times what is left, squared, `(n_seen,)`.

    Those of the pairs with a player in the coalition and in the complement are taken apart, each together with
    `PRIOR_PAIRS` more of the stratum's mean: where a player was in few of the coalitions by chance, it is not thought
    to be known well.
    """
    part = (seen.sizes / seen.n_players)[:, np.newaxis]
    prior = PRIOR_PAIRS * seen.means(squares[:, np.newaxis])
    joined = seen.coalitions.astype(np.float64)
    n_inside, inside = seen.sums(joined), seen.sums(joined * squares[:, np.newaxis])
    outside = seen.sums(squares[:, np.newaxis]) - inside
    with_player = (inside + prior) / (n_inside + PRIOR_PAIRS)
    without = (np.maximum(outside, 0) + prior) / (seen.counts[:, np.newaxis] - n_inside + PRIOR_PAIRS)
    return part * (1 - part) * ((1 - part) * with_player + part * without)


def _of_all(game: Game, values: Attributions) -> Attributions:
    everyone = np.zeros((game.n_players, values.shape[1]))
    everyone[game.playing] = values
    return everyone
