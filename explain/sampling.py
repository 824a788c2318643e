"""Which coalitions a sampling estimator evaluates, and in what order: pairs of a coalition and its complement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from explain.game import CoalitionMatrix

ENUMERATED = 2**17
"""Strata of at most so many pairs are drawn by shuffled numbers; larger ones by rejecting repetitions."""


@dataclass(frozen=True, slots=True)
class SeenPairs:
    """Pairs of coalitions that were evaluated, strata together, each in the order of its draws.

    Attributes:
        coalitions: `(n_seen, n_players)`, the smaller of each pair.
        strata: `(n_seen,)`, its size - 1.
        counts, sizes, shares: `(n_strata,)`: pairs seen, size of the smaller coalition, and 1, or 1/2 where the two
            coalitions of a pair are of one size.
        stratum_sizes: `(n_strata,)`, how many pairs there are.
    """

    coalitions: CoalitionMatrix
    strata: NDArray[np.intp]
    counts: NDArray[np.intp]
    sizes: NDArray[np.intp]
    shares: NDArray[np.float64]
    stratum_sizes: NDArray[np.float64]

    @property
    def n_players(self) -> int:
        return self.coalitions.shape[1]

    @property
    def regressors(self) -> NDArray[np.float64]:
        """`(n_seen, n_players)`: who is in, less the part of all that is."""
        return self.coalitions - (self.sizes / self.n_players)[self.strata, np.newaxis]

    @property
    def spread(self) -> NDArray[np.float64]:
        """`(n_strata,)`: of a stratum's regressors; their covariance is it times (identity - 1/n)."""
        return self.sizes * (self.n_players - self.sizes) / (self.n_players * (self.n_players - 1))

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of rows `(n_seen, ...)` over each stratum, `(n_strata, ...)`."""
        totals = np.zeros((len(self.counts), *values.shape[1:]))
        seen = self.counts > 0
        starts = (np.cumsum(self.counts) - self.counts)[seen]
        totals[seen] = np.add.reduceat(values, starts, axis=0)
        return totals

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of rows `(n_seen, n)` over each stratum, `(n_strata, n)`; 0 where none was seen."""
        return self.sums(values) / np.maximum(self.counts, 1)[:, np.newaxis]


class PairStream:
    """Draws pairs of coalitions without replacement, stratified by size.

    A pair is named by its smaller coalition; where both are as large, by the one that holds player 0. Stratum s - 1
    holds the pairs of size s, 1 to n_players // 2. Each stratum draws uniformly from a random stream of its own, so
    that its first m pairs are the same however the draws are spread over calls.

    Args:
        n_players: below 2 there are no pairs.
        seed: of all streams.
    """

    def __init__(self, n_players: int, seed: int) -> None:
        self.n_players = n_players
        self.sizes = np.arange(1, n_players // 2 + 1)
        halves = [2 if 2 * size == n_players else 1 for size in self.sizes.tolist()]
        self.stratum_sizes = [
            math.comb(n_players, size) // half for size, half in zip(self.sizes.tolist(), halves, strict=True)
        ]
        self.shares = 1 / np.array(halves)
        """Leverage of a stratum: the same for every size, but half where the two coalitions of a pair are of one."""
        self.rates = self.shares / (self.sizes * (n_players - self.sizes)) ** 0.25
        """Pairs of a stratum that are drawn while another has as many as its own rate."""
        self.n_pairs = sum(self.stratum_sizes)
        self._strata = [_Stratum(n_players, size, seed) for size in self.sizes.tolist()]
        self._taken = 0

    def take(self, n_pairs: int) -> tuple[CoalitionMatrix, NDArray[np.intp]]:
        """The next pairs, `(n_pairs, n_players)`, and the stratum of each, `(n_pairs,)`."""
        before, self._taken = self._taken, self._taken + n_pairs
        counts = [self.counts(taken) for taken in (before, self._taken)]
        drawn = [
            stratum.draw(start, stop)
            for stratum, start, stop in zip(self._strata, *counts, strict=True)
            if stop > start
        ]
        nothing = np.zeros((0, self.n_players), dtype=bool)
        added = np.array(counts[1]) - np.array(counts[0])
        return np.concatenate([nothing, *drawn]), np.repeat(np.arange(len(self.sizes)), added.astype(np.intp))

    def seen(self, coalitions: CoalitionMatrix, strata: NDArray[np.intp]) -> SeenPairs:
        """Pairs that were taken, strata together."""
        return SeenPairs(
            coalitions,
            strata,
            counts=np.bincount(strata, minlength=len(self.sizes)),
            sizes=self.sizes,
            shares=self.shares,
            stratum_sizes=np.array([float(size) for size in self.stratum_sizes]),
        )

    def counts(self, n_pairs: int) -> list[int]:
        """How many of the first `n_pairs` pairs lie in each stratum; none ever falls as `n_pairs` rises.

        Each stratum is drawn at its rate until it is used up. Where the game is far from additive by as much at every
        size, an attribution has the least variance at rates of share / sqrt(s (n - s)); where small and large
        coalitions are nearer to it, as by their leverage, at rates of share. The rates lie between.
        """
        if not self.stratum_sizes:
            return []
        low, high = 0, 2
        while sum(self._served(high)) < n_pairs:
            high *= 2
        while high - low > 1:
            turns = (low + high) // 2
            low, high = (turns, high) if sum(self._served(turns)) <= n_pairs else (low, turns)
        counts, following = self._served(low), self._served(low + 1)
        left = n_pairs - sum(counts)
        for stratum, (now, then) in enumerate(zip(counts, following, strict=True)):
            if then > now and left > 0:
                counts[stratum] += 1
                left -= 1
        return counts

    def _served(self, turns: int) -> list[int]:
        """In a turn, the stratum of the highest rate gets a pair."""
        per_turn = (self.rates / self.rates.max()).tolist()
        return [min(size, int(turns * rate)) for size, rate in zip(self.stratum_sizes, per_turn, strict=True)]


class _Stratum:
    """A uniformly random order of the pairs of one size."""

    def __init__(self, n_players: int, size: int, seed: int) -> None:
        self._n_players, self._size = n_players, size
        self._halved = 2 * size == n_players
        self._n_pairs = math.comb(n_players, size) // (2 if self._halved else 1)
        self._rng = np.random.default_rng([seed, size])
        self._order: NDArray[np.int64] | None = None
        self._seen: set[bytes] = set()

    def draw(self, start: int, stop: int) -> CoalitionMatrix:
        """The pairs `start` to `stop` of the order. Each call goes on where the last one ended."""
        if self._n_pairs > ENUMERATED:
            return self._draw_new(stop - start)
        if self._order is None:
            self._order = self._rng.permutation(self._n_pairs)
        # Numbered so that the coalitions which hold player 0 come first.
        return numbered_coalitions(self._order[start:stop], self._n_players, self._size)

    def _draw_new(self, n_pairs: int) -> CoalitionMatrix:
        drawn = np.zeros((n_pairs, self._n_players), dtype=bool)
        n_drawn = 0
        # Never more candidates than are missing, so that the order does not depend on how draws fall into calls.
        while n_drawn < n_pairs:
            candidates = self._candidates(n_pairs - n_drawn)
            for name, candidate in zip(np.packbits(candidates, axis=1), candidates, strict=True):
                if name.tobytes() not in self._seen:
                    self._seen.add(name.tobytes())
                    drawn[n_drawn] = candidate
                    n_drawn += 1
        return drawn

    def _candidates(self, count: int) -> CoalitionMatrix:
        """Coalitions of the players with the smallest of as many uniform numbers; one may have been seen before."""
        numbers = self._rng.random((count, self._n_players))
        coalitions = np.zeros(numbers.shape, dtype=bool)
        members = np.argpartition(numbers, self._size - 1, axis=1)[:, : self._size]
        np.put_along_axis(coalitions, members, True, axis=1)
        if self._halved:
            coalitions ^= ~coalitions[:, :1]
        return coalitions


def numbered_coalitions(numbers: NDArray[np.int64], n_players: int, size: int) -> CoalitionMatrix:
    """The coalitions of a size by their number, `(n_numbers, n_players)`, in lexicographic order of their players."""
    coalitions = np.zeros((len(numbers), n_players), dtype=bool)
    left = numbers.copy()
    missing = np.full(len(numbers), size)
    for player, with_player in enumerate(_holding(n_players, size)):
        holding = with_player[missing]
        taken = left < holding
        coalitions[:, player] = taken
        left = np.where(taken, left, left - holding)
        missing = missing - taken
    return coalitions


@lru_cache(maxsize=1024)
def _holding(n_players: int, size: int) -> NDArray[np.int64]:
    """`(n_players, size + 1)`: how many coalitions hold a player, by how many of it and those after it are missing."""
    return np.array(
        [
            [math.comb(n_players - 1 - player, need - 1) if need else 0 for need in range(size + 1)]
            for player in range(n_players)
        ]
    )
