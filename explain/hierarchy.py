"""Who belongs together: trees of groups of players."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from explain.errors import InvalidHierarchy

Tree: TypeAlias = "int | tuple[Tree, ...]"
"""A player by its number, or a group of trees."""


@dataclass(frozen=True)
class Hierarchy:
    """A tree of groups of players: those of a group join a coalition together, one group after another.

    Attributes:
        tree: nested tuples of players; ((0, 1), (2, (3, 4))), say. Each of 0 to n_players - 1 is in it once.

    Raises:
        InvalidHierarchy: when a group is empty, or a player is missing or there twice.
    """

    tree: Tree

    def __post_init__(self) -> None:
        players = sorted(leaves(self.tree))
        if players != list(range(len(players))):
            missing = sorted(set(range(max(players, default=-1) + 1)) - set(players))
            twice = sorted({player for player in players if players.count(player) > 1})
            raise InvalidHierarchy(f"missing: {missing}; more than once: {twice}; negative: {min(players) < 0}")

    @cached_property
    def n_players(self) -> int:
        return sum(1 for _ in leaves(self.tree))

    @staticmethod
    def balanced(n_players: int) -> Hierarchy:
        """Halves of halves of the players in their order: those with neighbouring numbers are together longest."""
        return Hierarchy(balanced_tree(range(n_players)))

    @staticmethod
    def grouped(groups: Sequence[Sequence[int]]) -> Hierarchy:
        """Halves of halves of groups in their order, and within a group of its players."""
        return Hierarchy(balanced_tree([balanced_tree(group) for group in groups]))


def balanced_tree(parts: Sequence[Tree]) -> Tree:
    """Halves of halves of the parts, in their order; one part is itself.

    Raises:
        InvalidHierarchy: when there are no parts.
    """
    if not parts:
        raise InvalidHierarchy("a group without players")
    if len(parts) == 1:
        return parts[0]
    middle = (len(parts) + 1) // 2
    return balanced_tree(parts[:middle]), balanced_tree(parts[middle:])


def leaves(tree: Tree) -> Iterator[int]:
    """The players of a tree, in its order.

    Raises:
        InvalidHierarchy: when a group is empty.
    """
    waiting: list[Tree] = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, int):
            yield part
        elif part:
            waiting.extend(reversed(part))
        else:
            raise InvalidHierarchy("a group without players")
