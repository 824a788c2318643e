"""Owen values down a hierarchy of players: the method `partition`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate, StopReason
from explain.coalitions import CoalitionValues
from explain.errors import BudgetTooSmall, GroupTooLarge, InvalidHierarchy
from explain.exact import all_coalitions
from explain.game import CoalitionMatrix, Game
from explain.hierarchy import Hierarchy, Tree, leaves
from explain.limits import Limits

MAX_PARTS = 20
"""Above this many parts of one group 2^n coalitions of them are out of reach, whatever the machine."""


def partition(
    game: Game, targets: Sequence[int], *, limits: Limits, slice_rows: int, hierarchy: Hierarchy | None = None
) -> Estimate:
    """Owen values of the asked outputs: what players add when groups join one after another, at every level of a tree.

    The value of a player is its mean marginal contribution over all orders that keep each group together (Owen 1977,
    "Values of games with a priori unions"; for trees of any depth Winter 1989, "A value for cooperative games with
    levels structure"). A group's value is shared out among its parts by evaluating every coalition of the parts, beside
    every combination of the groups around it. Nothing is drawn: there is no seed.

    A run refines one group after another, first those whose joining changes the outputs most per row evaluated (the
    root of the mean square over what may surround them, as a part of S). Where it ends before all are refined, the
    values of the groups are right, but the players of an unrefined group share its value evenly, and no error is stated
    for them: how uneven they are is not known.

    Players that equal the whole background take no part in any group.

    Args:
        targets: the outputs to explain. They share all evaluations.
        slice_rows: the most rows in one call of the model. How rows are cut into calls depends on nothing else.
        hierarchy: of all players; halves of halves in their order where none is given.

    Returns:
        An `Estimate` over the asked targets: a standard error is 0 for a player on its own, and NaN for one that shares
        a group's value. The same game and number of evaluations give the same bits.

    Raises:
        InvalidHierarchy: when the hierarchy is of another number of players.
        GroupTooLarge: when a group has more than 20 parts that differ from the background.
        BudgetTooSmall: when the budget does not cover the parts of the first group.
    """
    hierarchy = hierarchy or Hierarchy.balanced(game.n_players)
    if hierarchy.n_players != game.n_players:
        raise InvalidHierarchy(f"one of {hierarchy.n_players} players for a game of {game.n_players}")
    chosen = list(targets)
    coalitions = CoalitionValues(game, slice_rows=slice_rows)
    frontier = _Frontier(game, hierarchy.tree, chosen)
    asked_at = 0
    stop: StopReason = "exact"
    while frontier.groups:
        groups, rows = frontier.next_round(coalitions.evaluations, slice_rows, limits.budget)
        if not groups and coalitions.evaluations == 0:
            raise BudgetTooSmall("partition", rows, limits.budget or 0)
        if not groups:
            stop = "budget"
            break
        # Asked once for each number of evaluations, since a run is named by it.
        if coalitions.evaluations > asked_at:
            asked_at = coalitions.evaluations
            # An unrefined group has no half-width, so that it is within no tolerance.
            reason = limits.stop_reason(within=False, evaluations=asked_at, next_round=rows)
            if reason is not None:
                stop = reason
                break
        frontier.refine(groups, coalitions)
    attributions, errors = frontier.shares()
    return Estimate(
        method="partition",
        estimand="owen",
        attributions=attributions,
        standard_errors=errors,
        half_widths=errors.copy(),
        values=game.value[chosen],
        base_values=game.background.base_values[chosen],
        scales=game.scales[chosen],
        evaluations=coalitions.evaluations,
        stop_reason=stop,
    )


@dataclass(frozen=True)
class _Group:
    """Players that share a value among themselves, and all that may surround them.

    Attributes:
        parts: trees of those who differ from the background; at least two.
        columns: of each part, which of the playing players it holds.
        contexts: `(n_contexts, n_playing)`, who may have joined before the group.
        weights: `(n_contexts,)`, how probable each context is.
        before, after: `(n_contexts, n_targets)`, values without and with the group.
        rows: what refining it evaluates.
        priority: what refining it promises, per row.
    """

    parts: list[Tree]
    columns: list[NDArray[np.intp]]
    contexts: CoalitionMatrix
    weights: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    rows: int
    priority: float

    @property
    def value(self) -> NDArray[np.float64]:
        return np.einsum("c,ct->t", self.weights, self.after - self.before)


class _Frontier:
    """The groups that are left to refine, and the shares of the players that are on their own already."""

    def __init__(self, game: Game, tree: Tree, targets: list[int]) -> None:
        self._targets, self._scales = targets, np.where(game.scales > 0, game.scales, 1)[targets]
        self._n_background = len(game.background.rows)
        self._playing = game.playing
        self._column_of = {player: column for column, player in enumerate(game.playing.tolist())}
        self._attributions = np.zeros((game.n_players, len(targets)))
        self.groups: list[_Group] = []
        nobody = np.zeros((1, len(game.playing)), dtype=bool)
        values = game.background.base_values[targets], game.value[targets]
        self._place(tree, nobody, np.ones(1), *(value[np.newaxis] for value in values))

    def next_round(self, evaluations: int, slice_rows: int, budget: int | None) -> tuple[list[_Group], int]:
        """The best groups to refine next that the budget allows, in one slice or one group, and their rows.

        A round is no longer than all before it. No group, and the rows of the cheapest, when the budget allows none.
        """
        spare = np.inf if budget is None else budget - evaluations
        affordable = [group for group in self.groups if group.rows <= spare]
        if not affordable:
            return [], min(group.rows for group in self.groups)
        # Stable: of groups alike, the one that came first.
        affordable.sort(key=lambda group: -group.priority)
        room = min(spare, slice_rows, evaluations)
        picked, rows = affordable[:1], affordable[0].rows
        for group in affordable[1:]:
            if rows + group.rows > room:
                break
            picked.append(group)
            rows += group.rows
        return picked, rows

    def refine(self, groups: list[_Group], coalitions: CoalitionValues) -> None:
        """Shares out the values of groups among their parts."""
        joined = [_with_parts(group) for group in groups]
        values = coalitions.of(np.concatenate([mine.reshape(-1, mine.shape[2]) for mine in joined]))[:, self._targets]
        refined = {id(group) for group in groups}
        self.groups = [group for group in self.groups if id(group) not in refined]
        start = 0
        for group, mine in zip(groups, joined, strict=True):
            stop = start + mine.shape[0] * mine.shape[1]
            inner = values[start:stop].reshape(*mine.shape[:2], -1)
            self._share_out(group, mine, inner)
            start = stop

    def shares(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Attributions and their errors, both `(n_players, n_targets)`."""
        attributions, errors = self._attributions.copy(), np.zeros_like(self._attributions)
        for group in self.groups:
            players = self._playing[np.concatenate(group.columns)]
            attributions[players] = group.value / len(players)
            errors[players] = np.nan
        return attributions, errors

    def _share_out(self, group: _Group, joined: CoalitionMatrix, inner: NDArray[np.float64]) -> None:
        """Places each part beside every context of its group and every coalition of the other parts.

        Args:
            joined: `(n_contexts, 2^n_parts - 2, n_playing)`.
            inner: `(n_contexts, 2^n_parts - 2, n_targets)`.
        """
        n_parts = len(group.parts)
        everyone = all_coalitions(n_parts)
        values = np.concatenate([group.before[:, np.newaxis], inner, group.after[:, np.newaxis]], axis=1)
        whole = group.contexts.copy()
        whole[:, np.concatenate(group.columns)] = True
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
        parts, columns = self._playing_parts(tree)
        gains = after - before
        if len(parts) < 2:
            for column in columns:
                self._attributions[self._playing[column]] = np.einsum("c,ct->t", weights, gains)
            return
        if len(parts) > MAX_PARTS:
            raise GroupTooLarge(len(parts), MAX_PARTS)
        rows = (2 ** len(parts) - 2) * len(contexts) * self._n_background
        stir = np.sqrt(np.einsum("c,ct->t", weights, gains**2)) / self._scales
        self.groups.append(_Group(parts, columns, contexts, weights, before, after, rows, float(stir.max()) / rows))

    def _playing_parts(self, tree: Tree) -> tuple[list[Tree], list[NDArray[np.intp]]]:
        """The parts of a tree in which someone plays, going down where there is but one, and the columns of each."""
        while True:
            subtrees = (tree,) if isinstance(tree, int) else tree
            columns = [
                np.array([self._column_of[player] for player in leaves(part) if player in self._column_of], np.intp)
                for part in subtrees
            ]
            parts = [part for part, theirs in zip(subtrees, columns, strict=True) if len(theirs)]
            columns = [theirs for theirs in columns if len(theirs)]
            if len(parts) != 1 or isinstance(parts[0], int):
                return parts, columns
            tree = parts[0]


def _with_parts(group: _Group) -> CoalitionMatrix:
    """`(n_contexts, 2^n_parts - 2, n_playing)`: each context with each coalition of parts, but for none and all."""
    some = all_coalitions(len(group.parts))[1:-1]
    joined = np.repeat(group.contexts[:, np.newaxis], len(some), axis=1)
    for part, columns in enumerate(group.columns):
        joined[:, np.flatnonzero(some[:, part])[:, np.newaxis], columns] = True
    return joined
