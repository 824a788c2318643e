"""Players of a row of columns: features, each with all columns that encode it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from explain.errors import InvalidPlayers
from explain.hierarchy import Hierarchy, Tree, balanced_tree
from explain.players import FeaturePlayer, Players


def group_players(
    columns: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    *,
    background: NDArray[np.floating] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Players:
    """One player per group of columns, such as a one-hot block, and one for each column in none.

    Players are numbered by their first columns.

    Args:
        columns: the names of all columns in order.
        groups: the names of its columns for each group.
        background: `(n_background, n_columns)`, for the hierarchy: that of `correlation_tree`. Without it, halves of
            halves in the order of the columns.
        weights: `(n_background,)`; equal where none are given.

    Raises:
        InvalidPlayers: when a group is empty or names an unknown column, or two groups share one.
    """
    places = {name: place for place, name in enumerate(columns)}
    owners: dict[int, str] = {}
    for group, names in groups.items():
        if not names:
            raise InvalidPlayers("one column or more in each group", f"none in {group!r}")
        for name in names:
            if name not in places:
                raise InvalidPlayers("groups of known columns", f"{name!r} in group {group!r}")
            if owners.setdefault(places[name], group) != group:
                raise InvalidPlayers(
                    "each column in one group at most", f"{name!r} in {owners[places[name]]!r}, {group!r}"
                )
    members: dict[tuple[bool, str], list[int]] = {}
    for place, name in enumerate(columns):
        # A group may be named as a column that is not in it.
        members.setdefault((place in owners, owners.get(place, name)), []).append(place)
    elements = np.empty(len(columns), dtype=np.intp)
    for player, theirs in enumerate(members.values()):
        elements[theirs] = player
    described = tuple(FeaturePlayer(name, tuple(theirs)) for (_, name), theirs in members.items())
    tree = balanced_tree(range(len(described)))
    if background is not None:
        tree = correlation_tree(background, elements, weights)
    return Players(elements, described, Hierarchy(tree))


def correlation_tree(
    background: NDArray[np.floating], elements: NDArray[np.intp], weights: NDArray[np.float64] | None = None
) -> Tree:
    """Puts together players that go together over the background.

    The distance of two players is 1 - the largest |correlation| of a column of one with a column of the other; the tree
    is that of complete linkage. Players that do not vary over the background go with nobody: they are put together in
    their order, as are all when the background has a single row.

    Args:
        background: `(n_background, n_columns)`.
        elements: `(n_columns,)`, the player of each column.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    rows = background.astype(np.float64)
    shares = np.full(len(rows), 1 / len(rows)) if weights is None else weights
    centred = rows - shares @ rows
    deviations = np.sqrt(shares @ centred**2)
    # What is left of a constant column by rounding is no variation.
    varying = deviations > 1e-12 * np.abs(rows).max(axis=0)
    standard = np.where(varying, centred / np.where(varying, deviations, 1), 0) * np.sqrt(shares)[:, np.newaxis]
    # einsum, not a BLAS product: its order of summation does not depend on threads.
    correlations = np.abs(np.einsum("mi,mj->ij", standard, standard))
    n_players = int(elements.max()) + 1
    likeness = np.zeros((n_players, n_players))
    np.maximum.at(likeness, (elements[:, np.newaxis], elements), correlations)
    moving = np.unique(elements[varying])
    still = np.setdiff1d(np.arange(n_players), moving).tolist()
    if len(moving) < 2:
        return balanced_tree(range(n_players))
    distances = np.clip(1 - likeness[np.ix_(moving, moving)], 0, 1)
    np.fill_diagonal(distances, 0)
    trees: list[Tree] = moving.tolist()
    for one, other in linkage(squareform(distances, checks=False), "complete")[:, :2].astype(int).tolist():
        trees.append((trees[one], trees[other]))
    return (trees[-1], balanced_tree(still)) if still else trees[-1]
