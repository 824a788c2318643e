"""The groups of a hierarchy, refined into their parts one after another: exact Owen values of all that are refined."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.coalitions import CoalitionValues
from explain.exact import all_coalitions, coalition_count
from explain.game import CoalitionMatrix, Game
from explain.hierarchy import Tree, leaves


@dataclass(frozen=True)
class Group:
    """Players that share a value among themselves, and all that may surround them.

    Attributes:
        parts: at least two trees of playing players.
        contexts: `(n_contexts, n_playing)`, who may have joined before the group.
        weights: `(n_contexts,)`, how probable each context is.
        before, after: `(n_contexts, n_targets)`, values without and with the group.
        rows: what refining it evaluates.
        priority: what refining it promises, per row.
    """

    parts: tuple[Tree, ...]
    contexts: CoalitionMatrix
    weights: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    rows: float
    priority: float

    @property
    def value(self) -> NDArray[np.float64]:
        return np.einsum("c,ct->t", self.weights, self.after - self.before)


class Groups:
    """The groups that are left to refine, and the shares of the players that are on their own already.

    Args:
        tree: of the numbers of the playing players; None where nobody plays.
    """

    def __init__(self, game: Game, tree: Tree | None, targets: list[int]) -> None:
        self._targets, self._scales = targets, np.where(game.scales > 0, game.scales, 1)[targets]
        self._n_background = len(game.background.rows)
        self._attributions = np.zeros((len(game.playing), len(targets)))
        self.waiting: list[Group] = []
        nobody = np.zeros((1, len(game.playing)), dtype=bool)
        before, after = game.background.base_values[np.newaxis, targets], game.value[np.newaxis, targets]
        if tree is not None:
            self._place(tree, nobody, np.ones(1), before, after)

    def best(self, room: float, least: float) -> list[Group]:
        """The groups to refine next in at most `room` rows; of more than one group at most `least` rows."""
        affordable = [group for group in self.waiting if group.rows <= room]
        # Stable: of groups alike, the one that came first.
        affordable.sort(key=lambda group: -group.priority)
        rows = np.cumsum([group.rows for group in affordable])
        return affordable[: max(int(np.searchsorted(rows, min(room, least), side="right")), 1)]

    def refine(self, groups: list[Group], coalitions: CoalitionValues) -> None:
        """Shares out the values of groups among their parts."""
        joined = [_with_parts(group) for group in groups]
        values = coalitions.of(np.concatenate([mine.reshape(-1, mine.shape[2]) for mine in joined]))[:, self._targets]
        refined = {id(group) for group in groups}
        self.waiting = [group for group in self.waiting if id(group) not in refined]
        start = 0
        for group, mine in zip(groups, joined, strict=True):
            stop = start + mine.shape[0] * mine.shape[1]
            inner = values[start:stop].reshape(*mine.shape[:2], -1)
            self._share_out(group, mine, inner)
            start = stop

    def shares(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Attributions and their errors, both `(n_playing, n_targets)`."""
        attributions, errors = self._attributions.copy(), np.zeros_like(self._attributions)
        for group in self.waiting:
            columns = list(leaves(group.parts))
            attributions[columns] = group.value / len(columns)
            errors[columns] = np.nan
        return attributions, errors

    def _share_out(self, group: Group, joined: CoalitionMatrix, inner: NDArray[np.float64]) -> None:
        """Places each part beside every context of its group and every coalition of the other parts.

        Args:
            joined: `(n_contexts, 2^n_parts - 2, n_playing)`.
            inner: `(n_contexts, 2^n_parts - 2, n_targets)`.
        """
        n_parts = len(group.parts)
        everyone = all_coalitions(n_parts)
        values = np.concatenate([group.before[:, np.newaxis], inner, group.after[:, np.newaxis]], axis=1)
        whole = group.contexts.copy()
        whole[:, list(leaves(group.parts))] = True
        contexts = np.concatenate([group.contexts[:, np.newaxis], joined, whole[:, np.newaxis]], axis=1)
        sizes = everyone.sum(axis=1)
        # How probable it is that just these parts joined before.
        chances = np.array([1 / (n_parts * math.comb(n_parts - 1, size)) for size in range(n_parts)])
        for part, tree in enumerate(group.parts):
            without = np.flatnonzero(~everyone[:, part])
            weights = group.weights[:, np.newaxis] * chances[sizes[without]]
            self._place(
                tree,
                contexts[:, without].reshape(-1, contexts.shape[2]),
                weights.reshape(-1),
                values[:, without].reshape(-1, values.shape[2]),
                values[:, without + 2**part].reshape(-1, values.shape[2]),
            )

    def _place(
        self,
        tree: Tree,
        contexts: CoalitionMatrix,
        weights: NDArray[np.float64],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> None:
        """Puts a tree among the groups to refine, or its share where it is of one player."""
        gains = after - before
        if isinstance(tree, int):
            self._attributions[tree] = np.einsum("c,ct->t", weights, gains)
            return
        rows = (coalition_count(len(tree)) - 2) * len(contexts) * self._n_background
        stir = np.sqrt(np.einsum("c,ct->t", weights, gains**2)) / self._scales
        self.waiting.append(Group(tree, contexts, weights, before, after, rows, float(stir.max()) / rows))


def count_coalitions(tree: Tree | None) -> float:
    """How many coalitions can come up where the groups of a tree stay together, without nobody and everybody."""
    count = 0.0
    waiting = [] if tree is None else [(tree, 1.0)]
    while waiting:
        group, n_contexts = waiting.pop()
        if not isinstance(group, int):
            count += n_contexts * (coalition_count(len(group)) - 2)
            waiting += [(part, n_contexts * coalition_count(len(group) - 1)) for part in group]
    return count


def _with_parts(group: Group) -> CoalitionMatrix:
    """`(n_contexts, 2^n_parts - 2, n_playing)`: each context with each coalition of parts, but for none and all."""
    some = all_coalitions(len(group.parts))[1:-1]
    joined = np.repeat(group.contexts[:, np.newaxis], len(some), axis=1)
    for number, part in enumerate(group.parts):
        joined[:, np.flatnonzero(some[:, number])[:, np.newaxis], list(leaves(part))] = True
    return joined
