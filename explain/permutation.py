"""Shapley values from random orders of joining, each with its reverse: the method `permutation`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explain.attribution import Estimate, StopReason
from explain.coalitions import CoalitionValues
from explain.errors import BudgetTooSmall
from explain.exact import coalition_count
from explain.game import Game
from explain.limits import Limits
from explain.orders import OrderSample


def permutation(game: Game, targets: Sequence[int], *, seed: int, limits: Limits, slice_rows: int) -> Estimate:
    """Shapley values of the asked outputs, by antithetic sampling of orders.

    A player's Shapley value is its mean marginal contribution over all orders in which players can join (Shapley 1953;
    Castro et al. 2009, "Polynomial calculation of the Shapley value based on sampling"). Orders are drawn in pairs, an
    order and its reverse (Mitchell et al. 2022, "Sampling permutations for Shapley value estimation", section 4.1): one
    pair is right for every game in which no more than two players interact at a time.

    Only players that differ from the background join, and no coalition is evaluated twice. Once evaluating what is left
    of all coalitions costs no more than the next round, that is done instead, and the result is exact. Orders are drawn
    with replacement: before that point a pair hardly ever comes twice.

    Args:
        targets: the outputs to explain. They share all evaluations.
        seed: the same seed, game and number of evaluations give the same bits.
        slice_rows: the most rows in one call of the model. How rows are cut into calls depends on nothing else.

    Returns:
        An `Estimate` over the asked targets. The standard error is that of the mean over the pairs, NaN below 4.

    Raises:
        BudgetTooSmall: when the budget does not cover one pair, or all coalitions where they are fewer.
    """
    playing, chosen = game.playing, list(targets)
    scales = game.scales[chosen]
    rng = np.random.default_rng(seed)
    coalitions = CoalitionValues(game, slice_rows=slice_rows)
    sample = OrderSample(game, chosen, coalitions, lambda: rng.permutation(len(playing)), slice_rows=slice_rows)
    rows_of_all = coalitions.rows_of_all(lambda columns: max(coalition_count(len(columns)) - 2, 0))
    asked_at = 0
    stop: StopReason = "exact"
    while (left := rows_of_all - coalitions.evaluations) > 0:
        spare = np.inf if limits.budget is None else limits.budget - coalitions.evaluations
        n_pairs = sample.next_round(spare)
        completes = left <= min(sample.next_round(np.inf) * sample.rows_per_pair, spare)
        # Asked once for each number of evaluations, since a run is named by it.
        if coalitions.evaluations > asked_at:
            asked_at = coalitions.evaluations
            reason = limits.stop_reason(
                # A half-width of NaN is within no tolerance.
                within=bool((sample.half_widths <= limits.tolerance * scales).all()),
                evaluations=asked_at,
                next_round=int(left) if completes else max(n_pairs, 1) * sample.rows_per_pair,
            )
            if reason is not None:
                stop = reason
                break
        if completes:
            break
        if n_pairs == 0 and sample.n_pairs == 0:
            raise BudgetTooSmall("permutation", int(min(sample.rows_per_pair, left)), limits.budget or 0)
        if n_pairs == 0:
            stop = "budget"
            break
        sample.add(n_pairs)
    if stop == "exact":
        attributions = coalitions.shapley()[:, chosen]
        errors = half_widths = np.zeros_like(attributions)
    else:
        attributions, errors, half_widths = sample.means, sample.standard_errors, sample.half_widths
    return Estimate(
        method="permutation",
        estimand="shapley",
        attributions=game.of_all(attributions),
        standard_errors=game.of_all(errors),
        half_widths=game.of_all(half_widths),
        values=game.value[chosen],
        base_values=game.background.base_values[chosen],
        scales=scales,
        evaluations=coalitions.evaluations,
        stop_reason=stop,
    )
