"""Shapley values from random orders of joining, each with its reverse: the method `permutation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.attribution import CONFIDENCE, Attributions, Estimate, StopReason
from explain.coalitions import CoalitionValues
from explain.errors import BudgetTooSmall
from explain.game import Game
from explain.limits import Limits

FIRST_PAIRS = 2
PAIRS_FOR_ERRORS = 4
"""Pairs of orders below which no standard error is stated."""
GROWTH = 1.25
"""How much longer a run is after each round."""


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
    gains, scales = (game.value - game.background.base_values)[chosen], game.scales[chosen]
    coalitions = CoalitionValues(game, slice_rows=slice_rows)
    rounds = _Rounds(len(playing), len(game.background.rows), slice_rows, limits.budget)
    rng = np.random.default_rng(seed)
    tally = _Tally(len(playing), len(chosen))
    while True:
        n_pairs, rows = rounds.after(tally.n_pairs, coalitions)
        stop: StopReason | None = None
        if rows > 0 and tally.n_pairs > 0:
            # A half-width of NaN is within no tolerance.
            within = bool((tally.half_widths <= limits.tolerance * scales).all())
            stop = limits.stop_reason(within=within, evaluations=coalitions.evaluations, next_round=rows)
        elif limits.budget is not None and rows > limits.budget:
            raise BudgetTooSmall("permutation", rows, limits.budget)
        if stop is not None:
            attributions, errors, half_widths = tally.means, tally.standard_errors, tally.half_widths
            break
        if rows == coalitions.rows_left:
            attributions, stop = coalitions.shapley()[:, chosen], "exact"
            errors = half_widths = np.zeros_like(attributions)
            break
        before = coalitions.evaluations
        # A round that finds all its coalitions known goes on: a run is named by its evaluations.
        while n_pairs > 0 or coalitions.evaluations == before:
            n_now = max(min(n_pairs, rounds.per_slice), 1)
            tally.add(_contributions(coalitions, [rng.permutation(len(playing)) for _ in range(n_now)], chosen, gains))
            n_pairs -= n_now
    return Estimate(
        method="permutation",
        estimand="shapley",
        attributions=_of_all(game, attributions),
        standard_errors=_of_all(game, errors),
        half_widths=_of_all(game, half_widths),
        values=game.value[chosen],
        base_values=game.background.base_values[chosen],
        scales=scales,
        evaluations=coalitions.evaluations,
        stop_reason=stop,
    )


@dataclass(frozen=True, slots=True)
class _Rounds:
    """How many pairs of orders each round adds. Rounds fill their slices, where the budget allows."""

    n_players: int
    n_background: int
    slice_rows: int
    budget: int | None

    @property
    def rows_per_pair(self) -> int:
        """At most: fewer where coalitions are known."""
        return 2 * max(self.n_players - 1, 0) * self.n_background

    @property
    def per_slice(self) -> int:
        return max(self.slice_rows // max(self.rows_per_pair, 1), 1)

    def after(self, n_seen: int, coalitions: CoalitionValues) -> tuple[int, int]:
        """How many pairs come next, and the most rows they evaluate; no pair where all coalitions take fewer rows.

        Rows beyond the budget, when it allows no pair.
        """
        wanted = max(PAIRS_FOR_ERRORS, int(n_seen * GROWTH) + 1) if n_seen else FIRST_PAIRS
        n_pairs = -(-wanted // self.per_slice) * self.per_slice - n_seen
        spare = np.inf if self.budget is None else self.budget - coalitions.evaluations
        if coalitions.rows_left <= min(n_pairs * self.rows_per_pair, spare):
            return 0, int(coalitions.rows_left)
        if n_pairs * self.rows_per_pair > spare:
            n_pairs = max(int(spare) // self.rows_per_pair, 1)
        return n_pairs, int(min(n_pairs * self.rows_per_pair, coalitions.rows_left))


class _Tally:
    """Sums over pairs of orders, each added in turn: they do not depend on how pairs fell into rounds."""

    def __init__(self, n_players: int, n_targets: int) -> None:
        self.n_pairs = 0
        self._first = np.zeros((n_players, n_targets))
        self._sums, self._squares = np.zeros_like(self._first), np.zeros_like(self._first)

    def add(self, contributions: NDArray[np.float64]) -> None:
        """Of each player in some pairs, `(n_pairs, n_players, n_targets)`."""
        for contribution in contributions:
            if self.n_pairs == 0:
                self._first = contribution
            # Far from zero, squares of what differs from the first lose no digits.
            deviation = contribution - self._first
            self._sums += deviation
            self._squares += deviation**2
            self.n_pairs += 1

    @property
    def means(self) -> Attributions:
        return self._first + self._sums / self.n_pairs

    @property
    def standard_errors(self) -> Attributions:
        if self.n_pairs < PAIRS_FOR_ERRORS:
            return np.full_like(self._sums, np.nan)
        scatter = np.maximum(self._squares - self._sums**2 / self.n_pairs, 0)
        return np.sqrt(scatter / (self.n_pairs * (self.n_pairs - 1)))

    @property
    def half_widths(self) -> Attributions:
        """By Student's t."""
        from scipy.stats import t

        return float(t.ppf((1 + CONFIDENCE) / 2, max(self.n_pairs - 1, 1))) * self.standard_errors


def _contributions(
    coalitions: CoalitionValues, orders: list[NDArray[np.int64]], chosen: list[int], gains: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`(n_orders, n_players, n_targets)`: what each player adds when it joins, the mean of an order and its reverse."""
    n_orders, n_players = len(orders), len(orders[0])
    ranks = np.argsort(orders, axis=1)
    joined = ranks[:, np.newaxis, :] <= np.arange(n_players - 1)[:, np.newaxis]
    flat = joined.reshape(-1, n_players)
    values = coalitions.of(np.concatenate([flat, ~flat]))[:, chosen]
    # of those who joined and those who did not, by how many joined
    differences = np.empty((n_orders, n_players + 1, len(chosen)))
    differences[:, 0], differences[:, -1] = -gains, gains
    differences[:, 1:-1] = (values[: len(flat)] - values[len(flat) :]).reshape(n_orders, n_players - 1, -1)
    steps = np.diff(differences, axis=1) / 2
    return np.take_along_axis(steps, ranks[:, :, np.newaxis], axis=1)


def _of_all(game: Game, values: Attributions) -> Attributions:
    everyone = np.zeros((game.n_players, values.shape[1]))
    everyone[game.playing] = values
    return everyone
