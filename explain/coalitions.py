"""Values of coalitions, each evaluated once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from explain.exact import all_coalitions, shapley_matrix
from explain.game import CoalitionMatrix, Game

MAX_KEPT = 2**18
"""Values kept. Beyond, memory stays flat; so many coalitions come from so many players that few would repeat."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Background rows that differ from the explained row in the same players.

    Attributes:
        columns: `(n_differing,)`, which of the playing players differ.
        members: `(n_members,)`, the background rows.
        known: weighted sums of outputs over the members, by coalition of those who differ.
    """

    columns: NDArray[np.intp]
    members: NDArray[np.intp]
    known: dict[bytes, NDArray[np.float64]] = field(default_factory=dict)


class CoalitionValues:
    """v(S) of a game, for coalitions of `game.playing`.

    A player that equals a background row changes nothing there, so coalitions that differ in such players alone are
    one and the same for that row: it is evaluated once. The values of nobody and of everybody are known beforehand.

    Attributes:
        evaluations: rows put through the network.
    """

    def __init__(self, game: Game, *, slice_rows: int) -> None:
        self._game, self._slice_rows = game, slice_rows
        self.evaluations = 0
        background = game.background
        patterns, group_of = np.unique(game.differing[:, game.playing], axis=0, return_inverse=True)
        self._groups = [
            _Group(np.flatnonzero(pattern), np.flatnonzero(group_of.reshape(-1) == number))
            for number, pattern in enumerate(patterns)
        ]
        for group in self._groups:
            weights = background.weights[group.members]
            nobody, everybody = _names(np.array([[False], [True]]).repeat(len(group.columns), axis=1))
            group.known[nobody] = np.einsum("m,mk->k", weights, background.outputs[group.members])
            # last, since without anybody who differs the two are one
            group.known[everybody] = weights.sum() * game.value
        self._n_kept = 0

    def rows_of_all(self, count: Callable[[NDArray[np.intp]], float]) -> float:
        """Rows that evaluating every coalition takes; infinity where they are too many to keep.

        Args:
            count: how many coalitions there can be of some of the playing players, without nobody and everybody.
        """
        counts = [count(group.columns) for group in self._groups]
        if sum(counts) > MAX_KEPT:
            return np.inf
        return float(sum(rows * len(group.members) for rows, group in zip(counts, self._groups, strict=True)))

    def of(self, coalitions: CoalitionMatrix) -> NDArray[np.float64]:
        """`(n_coalitions, n_outputs)`, for `(n_coalitions, n_playing)`."""
        names = [_names(coalitions[:, group.columns]) for group in self._groups]
        firsts = [_firsts(theirs, group.known) for theirs, group in zip(names, self._groups, strict=True)]
        fresh = self._evaluate(coalitions, firsts)
        values = np.zeros((len(coalitions), len(self._game.background.base_values)))
        for group, theirs, places, sums in zip(self._groups, names, firsts, fresh, strict=True):
            found = dict(zip([theirs[place] for place in places], sums, strict=True))
            values += np.array([group.known[name] if name in group.known else found[name] for name in theirs])
            for name in list(found)[: MAX_KEPT - self._n_kept]:
                group.known[name] = found[name].copy()
                self._n_kept += 1
        return values

    def shapley(self) -> NDArray[np.float64]:
        """`(n_playing, n_outputs)`: Shapley values, after evaluating what is left of all coalitions."""
        attributions = np.zeros((len(self._game.playing), len(self._game.background.base_values)))
        for number, group in enumerate(self._groups):
            everything = all_coalitions(len(group.columns))
            names = _names(everything)
            firsts: list[list[int]] = [[] for _ in self._groups]
            firsts[number] = _firsts(names, group.known)
            embedded = np.zeros((len(everything), len(self._game.playing)), dtype=bool)
            embedded[:, group.columns] = everything
            sums = self._evaluate(embedded, firsts)[number]
            group.known.update(zip([names[place] for place in firsts[number]], sums, strict=True))
            values = np.array([group.known[name] for name in names])
            attributions[group.columns] += np.einsum("ic,ck->ik", shapley_matrix(len(group.columns)), values)
        return attributions

    def _evaluate(self, coalitions: CoalitionMatrix, firsts: list[list[int]]) -> list[NDArray[np.float64]]:
        """For each group, weighted sums over its members for the coalitions at some places, `(n_places, n_outputs)`.

        All rows go through the network together, in full slices.
        """
        game = self._game
        places = np.concatenate(
            [
                np.repeat(np.array(theirs, dtype=np.intp), len(group.members))
                for theirs, group in zip(firsts, self._groups, strict=True)
            ]
        )
        members = np.concatenate(
            [np.tile(group.members, len(theirs)) for theirs, group in zip(firsts, self._groups, strict=True)]
        )
        self.evaluations += len(members)
        outputs = np.zeros((len(members), len(game.background.base_values)))
        for begin in range(0, len(members), self._slice_rows):
            part = slice(begin, begin + self._slice_rows)
            joined = np.zeros((len(members[part]), game.n_players), dtype=bool)
            joined[:, game.playing] = coalitions[places[part]]
            outputs[part] = game.hybrid_outputs(joined, members[part])
        sums, start = [], 0
        for theirs, group in zip(firsts, self._groups, strict=True):
            stop = start + len(theirs) * len(group.members)
            cube = outputs[start:stop].reshape(len(theirs), len(group.members), outputs.shape[1])
            sums.append(np.einsum("m,cmk->ck", game.background.weights[group.members], cube))
            start = stop
        return sums


def _names(coalitions: CoalitionMatrix) -> list[bytes]:
    packed = np.packbits(coalitions, axis=1)
    return [row.tobytes() for row in packed]


def _firsts(names: list[bytes], known: dict[bytes, NDArray[np.float64]]) -> list[int]:
    """Where names that are not known yet occur first."""
    fresh: dict[bytes, int] = {}
    for place, name in enumerate(names):
        if name not in known:
            fresh.setdefault(name, place)
    return list(fresh.values())
