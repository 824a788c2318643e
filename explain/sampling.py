"""Which coalitions a sampling estimator evaluates, and in what order: pairs of a coalition and its complement."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from explain.game import CoalitionMatrix

ENUMERATED = 2**17
"""Strata of at most so many pairs are drawn by shuffled numbers; larger ones by rejecting repetitions."""


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

    def counts(self, n_pairs: int) -> list[int]:
        """How many of the first `n_pairs` pairs lie in each stratum; none ever falls as `n_pairs` rises.

        The pairs of a single player come first, so that a regression on all players has one solution. Then the other
        strata take turns, each until it is used up.
        """
        if not self.stratum_sizes:
            return []
        singles = min(self.stratum_sizes[0], n_pairs)
        # A stratum of share 1/2 is served in every second turn.
        low, high = 0, 2 * n_pairs + 2
        while high - low > 1:
            turns = (low + high) // 2
            low, high = (turns, high) if singles + sum(self._served(turns)) <= n_pairs else (low, turns)
        counts, following = self._served(low), self._served(low + 1)
        left = n_pairs - singles - sum(counts)
        for stratum, (now, then) in enumerate(zip(counts, following, strict=True)):
            if then > now and left > 0:
                counts[stratum] += 1
                left -= 1
        return [singles, *counts[1:]]

    def _served(self, turns: int) -> list[int]:
        served = [
            min(size, int(turns * share)) for size, share in zip(self.stratum_sizes, self.shares.tolist(), strict=True)
        ]
        return [0, *served[1:]]


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
