"""Owen values down a hierarchy of players: the method `partition`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate, StopReason
from explain.coalitions import CoalitionValues
from explain.errors import BudgetTooSmall, InvalidHierarchy
from explain.game import Game
from explain.hierarchy import Hierarchy, Tree, pruned
from explain.limits import Limits
from explain.orders import OrderSample
from explain.owen import Group, Groups, count_coalitions

GROUPS_FIRST = 0.25
"""The part of a pair of orders' price up to which groups are refined before orders are drawn."""


def partition(
    game: Game,
    targets: Sequence[int],
    *,
    seed: int,
    limits: Limits,
    slice_rows: int,
    hierarchy: Hierarchy | None = None,
) -> Estimate:
    """Owen values of the asked outputs: what players add when groups join one after another, at every level of a tree.

    The value of a player is its mean marginal contribution over all orders that keep each group together (Owen 1977,
    "Values of games with a priori unions"; for trees of any depth Winter 1989, "A value for cooperative games with
    levels structure"). Refining a group shares its value out among its parts, by evaluating every coalition of the
    parts beside every combination of the groups around it: without error, at about 2/3 n^2 coalitions for n players in
    halves of halves. A run

    1. refines groups, first those whose joining changes the outputs most per row evaluated. Where it ends here, the
       values of the groups are right, but the players of an unrefined group share its value evenly, and no error is
       stated for them: how uneven they are is not known.
    2. draws orders that keep groups together, each with its reverse, which gives every player an estimate with the
       standard error of the mean over the pairs, from 4 pairs on.
    3. refines all groups that are left, once that costs no more than the next round of orders: the result is exact.

    No coalition is evaluated twice. Players that equal the whole background take no part in any group.

    Args:
        targets: the outputs to explain. They share all evaluations.
        seed: the same seed, game and number of evaluations give the same bits.
        slice_rows: the most rows in one call of the model. How rows are cut into calls depends on nothing else.
        hierarchy: of all players; halves of halves in their order where none is given.

    Returns:
        An `Estimate` over the asked targets.

    Raises:
        InvalidHierarchy: when the hierarchy is of another number of players.
        BudgetTooSmall: when the budget does not cover the parts of the first group.
    """
    hierarchy = hierarchy or Hierarchy.balanced(game.n_players)
    if hierarchy.n_players != game.n_players:
        raise InvalidHierarchy(f"one of {hierarchy.n_players} players for a game of {game.n_players}")
    chosen = list(targets)
    scales = game.scales[chosen]
    coalitions = CoalitionValues(game, slice_rows=slice_rows)
    tree = pruned(hierarchy.tree, {player: number for number, player in enumerate(game.playing.tolist())})
    groups = Groups(game, tree, chosen)
    rng = np.random.default_rng(seed)
    sample = OrderSample(game, chosen, coalitions, lambda: draw_order(tree, rng), slice_rows=slice_rows)
    rows_of_all = coalitions.rows_of_all(lambda columns: count_coalitions(_within(tree, columns)))
    asked_at = 0
    stop: StopReason = "exact"
    while groups.waiting:
        spare = np.inf if limits.budget is None else limits.budget - coalitions.evaluations
        left = rows_of_all - coalitions.evaluations
        n_pairs = sample.next_round(spare)
        completes = left <= min(sample.next_round(np.inf) * sample.rows_per_pair, spare)
        refined: list[Group] = []
        if sample.n_pairs == 0:
            early = GROUPS_FIRST * sample.rows_per_pair - coalitions.evaluations
            # Where the budget has no room for orders, groups are all there is.
            refined = groups.best(min(early, spare) if n_pairs else spare, min(slice_rows, coalitions.evaluations))
        # Asked once for each number of evaluations, since a run is named by it.
        if coalitions.evaluations > asked_at:
            asked_at = coalitions.evaluations
            reason = limits.stop_reason(
                # What has no half-width is within no tolerance.
                within=sample.n_pairs > 0 and bool((sample.half_widths <= limits.tolerance * scales).all()),
                evaluations=asked_at,
                next_round=int(left if completes else sum(group.rows for group in refined))
                or max(n_pairs, 1) * sample.rows_per_pair,
            )
            if reason is not None:
                stop = reason
                break
        if completes:
            while groups.waiting:
                groups.refine(groups.best(np.inf, slice_rows), coalitions)
        elif refined:
            groups.refine(refined, coalitions)
        elif n_pairs:
            sample.add(n_pairs)
        elif coalitions.evaluations:
            stop = "budget"
            break
        else:
            raise BudgetTooSmall("partition", int(groups.waiting[0].rows), limits.budget or 0)
    attributions, errors = groups.shares()
    half_widths = errors
    if stop != "exact" and sample.n_pairs:
        attributions, errors, half_widths = sample.means, sample.standard_errors, sample.half_widths
    return Estimate(
        method="partition",
        estimand="owen",
        attributions=game.of_all(attributions),
        standard_errors=game.of_all(errors),
        half_widths=game.of_all(half_widths),
        values=game.value[chosen],
        base_values=game.background.base_values[chosen],
        scales=scales,
        evaluations=coalitions.evaluations,
        stop_reason=stop,
    )


def draw_order(tree: Tree | None, rng: np.random.Generator) -> NDArray[np.intp]:
    """An order of all players of a tree that keeps each group together, any such order as probable as another."""
    order: list[int] = []
    waiting = [] if tree is None else [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, int):
            order.append(part)
        else:
            waiting.extend(part[place] for place in rng.permutation(len(part)))
    return np.array(order, dtype=np.intp)


def _within(tree: Tree | None, columns: NDArray[np.intp]) -> Tree | None:
    return None if tree is None else pruned(tree, {column: column for column in columns.tolist()})
