"""Mean contributions of players over random orders of joining, each order with its reverse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Attributions, student_t_quantile
from explain.coalitions import CoalitionValues
from explain.game import Game

FIRST_PAIRS = 2
PAIRS_FOR_ERRORS = 4
"""Pairs of orders below which no standard error is stated."""
PRIOR_PAIRS = 1 / 3
"""Pairs that count as seen beside those that were, each off by the mean deviation of all players.

Few pairs can add the same for a player by chance. Without this, intervals of 4 pairs held 92 to 94 % of the truth
(`benchmarks/calibration.py`); with it, 94 to 97 %.
"""
GROWTH = 1.25
"""How much longer a run is after each round."""

DrawOrder = Callable[[], NDArray[np.intp]]
"""Gives the next order: a permutation of the numbers of the playing players, `(n_playing,)`."""


class OrderSample:
    """Pairs of an order and its reverse, and what each player added in them.

    Sums are taken pair after pair, so that they do not depend on how pairs fell into rounds.

    Args:
        targets: the outputs to tally.
        draw: gives one order after another.

    Attributes:
        n_pairs: seen so far.
        rows_per_pair: at most; fewer are evaluated where coalitions are known.
    """

    def __init__(
        self, game: Game, targets: list[int], coalitions: CoalitionValues, draw: DrawOrder, *, slice_rows: int
    ) -> None:
        self._coalitions, self._targets, self._draw = coalitions, targets, draw
        self._gains = (game.value - game.background.base_values)[targets]
        self.n_pairs = 0
        self.rows_per_pair = 2 * max(len(game.playing) - 1, 0) * len(game.background.rows)
        self._per_slice = max(slice_rows // max(self.rows_per_pair, 1), 1)
        self._first = np.zeros((len(game.playing), len(targets)))
        self._sums, self._squares = np.zeros_like(self._first), np.zeros_like(self._first)

    def next_round(self, spare: float) -> int:
        """How many pairs come next: enough to fill slices; fewer, or none, where `spare` rows are left to evaluate."""
        wanted = max(PAIRS_FOR_ERRORS, int(self.n_pairs * GROWTH) + 1) if self.n_pairs else FIRST_PAIRS
        n_pairs = -(-wanted // self._per_slice) * self._per_slice - self.n_pairs
        return int(min(n_pairs, spare // max(self.rows_per_pair, 1)))

    def add(self, n_pairs: int) -> None:
        """Sees so many more pairs."""
        for start in range(0, n_pairs, self._per_slice):
            orders = [self._draw() for _ in range(min(self._per_slice, n_pairs - start))]
            for contribution in self._contributions(orders):
                self._tally(contribution)

    @property
    def means(self) -> Attributions:
        return self._first + self._sums / self.n_pairs

    @property
    def standard_errors(self) -> Attributions:
        """Of the means; NaN below 4 pairs."""
        if self.n_pairs < PAIRS_FOR_ERRORS:
            return np.full_like(self._sums, np.nan)
        scatter = np.maximum(self._squares - self._sums**2 / self.n_pairs, 0)
        typical = np.sqrt(scatter / (self.n_pairs - 1)).mean(axis=0)
        scatter += PRIOR_PAIRS * typical**2
        return np.sqrt(scatter / (self.n_pairs * (self.n_pairs - 1)))

    @property
    def half_widths(self) -> Attributions:
        """By Student's t."""
        return student_t_quantile(max(self.n_pairs - 1, 1)) * self.standard_errors

    def _tally(self, contribution: NDArray[np.float64]) -> None:
        if self.n_pairs == 0:
            self._first = contribution
        # Far from zero, squares of what differs from the first lose no digits.
        deviation = contribution - self._first
        self._sums += deviation
        self._squares += deviation**2
        self.n_pairs += 1

    def _contributions(self, orders: list[NDArray[np.intp]]) -> NDArray[np.float64]:
        """`(n_orders, n_players, n_targets)`: what each player adds, the mean of an order and its reverse."""
        n_orders, n_players = len(orders), len(orders[0])
        ranks = np.argsort(orders, axis=1)
        joined = (ranks[:, np.newaxis, :] <= np.arange(n_players - 1)[:, np.newaxis]).reshape(-1, n_players)
        values = self._coalitions.of(np.concatenate([joined, ~joined]))[:, self._targets]
        # of those who joined less those who did not, by how many joined
        differences = np.empty((n_orders, n_players + 1, len(self._targets)))
        differences[:, 0], differences[:, -1] = -self._gains, self._gains
        differences[:, 1:-1] = (values[: len(joined)] - values[len(joined) :]).reshape(n_orders, n_players - 1, -1)
        return np.take_along_axis(np.diff(differences, axis=1) / 2, ranks[:, :, np.newaxis], axis=1)
