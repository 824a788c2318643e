"""Owen values: brute force over all orders that keep groups together, honest errors, and when it stops."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_games import game_of, random_network

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall, InvalidHierarchy
from explain.exact import exact
from explain.game import Game
from explain.hierarchy import Hierarchy, Tree, balanced_tree
from explain.limits import Limits
from explain.partition import draw_order, partition

SLICE_ROWS = 64


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(((0, 1), (2, (3, 4))), id="halves"),
        pytest.param((0, 1, 2, 3, 4), id="one group"),
        pytest.param(((0, 3), 1, (2, 4)), id="three groups"),
        pytest.param((((0,), 1), ((2, 3, 4),)), id="groups of one part"),
    ],
)
def test_equals_the_average_over_all_orders_that_keep_groups_together(tree: Tree) -> None:
    game = tied_game()

    estimate = partition_of(game, tree)

    np.testing.assert_allclose(estimate.attributions, order_average(game, tree), rtol=0, atol=1e-12)
    assert ("exact", "owen") == (estimate.stop_reason, estimate.estimand)
    np.testing.assert_array_equal(estimate.standard_errors, np.zeros((5, 2)))


def test_one_group_of_all_gives_shapley_values() -> None:
    game = random_network(7)

    estimate = partition_of(game, tuple(range(7)))

    np.testing.assert_allclose(estimate.attributions, exact(game, slice_rows=64).attributions, atol=1e-12)


def test_halves_of_halves_of_64_players_are_exact_in_two_thirds_of_the_square() -> None:
    game = random_network(64, n_background=1)

    estimate = partition_of(game, balanced_tree(range(64)))

    assert "exact" == estimate.stop_reason
    assert 2 * (64**2 - 1) // 3 == estimate.evaluations


def test_values_of_groups_are_those_of_groups_that_play_as_one() -> None:
    game = random_network(8)
    groups = Game(game.evaluate, game.row, game.background, np.array([0, 0, 0, 1, 1, 2, 2, 2]))
    tree = ((0, 1, 2), (3, 4), (5, 6, 7))

    estimate = partition_of(game, tree)

    sums = np.stack([estimate.attributions[list(group)].sum(axis=0) for group in tree])
    np.testing.assert_allclose(sums, exact(groups, slice_rows=64).attributions, atol=1e-12)


def test_sampled_orders_are_met_within_the_stated_errors() -> None:
    game = random_network(40, n_background=1)
    truth = partition_of(game).attributions

    runs = [partition_of(game, budget=700, seed=seed) for seed in range(20)]

    assert {"budget"} == {run.stop_reason for run in runs}
    deviations = np.stack([(run.attributions - truth) / run.scales for run in runs])
    stated = np.stack([run.standard_errors / run.scales for run in runs])
    assert 0.85 < np.sqrt((stated**2).mean() / (deviations**2).mean()) < 1.2
    within = np.stack([np.abs(run.attributions - truth) <= run.half_widths for run in runs])
    assert 0.92 < within.mean() < 0.99


def test_budget_below_a_pair_of_orders_shares_groups_evenly_and_states_no_error_for_them() -> None:
    game = random_network(40, n_background=1)
    truth = partition_of(game).attributions

    estimate = partition_of(game, budget=30)

    assert "budget" == estimate.stop_reason
    assert np.isnan(estimate.standard_errors).all()
    same = np.split(estimate.attributions, np.flatnonzero(np.diff(estimate.attributions[:, 0])) + 1)
    bounds = np.cumsum([0, *map(len, same)])
    for start, stop in itertools.pairwise(bounds.tolist()):
        np.testing.assert_allclose(
            estimate.attributions[start:stop].sum(axis=0), truth[start:stop].sum(axis=0), rtol=0, atol=1e-12
        )
    assert 3 < len(same) < 20


@pytest.mark.parametrize("budget", [2, 30, 78, 100, 500, 2000])
def test_attributions_add_up_and_the_budget_is_kept(budget: int) -> None:
    estimate = partition_of(random_network(40, n_background=1), budget=budget)

    assert (np.abs(estimate.efficiency_residuals) <= 1e-12 * estimate.scales).all()
    assert 0 < estimate.evaluations <= budget


def test_budget_below_the_first_group_is_refused() -> None:
    with pytest.raises(BudgetTooSmall) as refusal:
        partition_of(random_network(40, n_background=3), budget=5)

    assert 6 == refusal.value.needed


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(1e-9, None, may_go_on=lambda rows: rows < 2000), id="deadline"),
        pytest.param(Limits(1e-9, None, may_go_on=lambda rows: rows < 20), id="deadline before orders"),
        pytest.param(Limits(1e-9, 777), id="budget"),
        pytest.param(Limits(1e-9, 50), id="budget for groups"),
        pytest.param(Limits(0.2, None), id="tolerance"),
        pytest.param(Limits(0.0, None), id="every coalition"),
    ],
)
@pytest.mark.parametrize("ties", [False, True])
def test_replay_of_the_evaluations_gives_the_same_bits_and_the_same_reason(limits: Limits, *, ties: bool) -> None:
    game = tied_game(24) if ties else random_network(24, n_background=2)
    recorded = partition(game, [0, 1], seed=5, limits=limits, slice_rows=SLICE_ROWS)

    again = replace(limits, may_go_on=lambda _: False, evaluations=recorded.evaluations)
    replayed = partition(game, [0, 1], seed=5, limits=again, slice_rows=SLICE_ROWS)

    assert (recorded.evaluations, recorded.stop_reason) == (replayed.evaluations, replayed.stop_reason)
    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)
    np.testing.assert_array_equal(recorded.standard_errors, replayed.standard_errors)


def test_no_row_is_evaluated_twice() -> None:
    seen: list[bytes] = []
    game = tied_game(24)

    def watching(rows: Any) -> Any:
        seen.extend(row.tobytes() for row in rows)
        return game.evaluate(rows)

    watched = Game(watching, game.row, game.background, game.players)

    estimate = partition(watched, [0], seed=0, limits=Limits(0), slice_rows=SLICE_ROWS)

    rows_for_the_value = 1
    assert "exact" == estimate.stop_reason
    assert len(seen) == len(set(seen)) == estimate.evaluations + rows_for_the_value


def test_orders_keep_groups_together_and_all_come_up() -> None:
    rng = np.random.default_rng(0)
    tree = ((0, 1), 2, (3, 4))

    drawn = {tuple(draw_order(tree, rng).tolist()) for _ in range(600)}

    assert set(orders(tree)) == drawn


@pytest.mark.parametrize("tree", [(0, 0), (0, 2), (), ((), 0), (-1, 0), (1, 2)])
def test_tree_that_does_not_hold_each_player_once_is_refused(tree: Any) -> None:
    with pytest.raises(InvalidHierarchy):
        Hierarchy(tree)


def test_hierarchy_of_other_players_is_refused() -> None:
    with pytest.raises(InvalidHierarchy, match="3 players for a game of 5"):
        partition_of(random_network(5), (0, (1, 2)))


def test_trees_of_groups_are_halves_of_halves() -> None:
    assert (((0, 1), 2), (3, 4)) == Hierarchy.balanced(5).tree
    assert ((((0, 1), 4), 2), (3, 5)) == Hierarchy.grouped([[0, 1, 4], [2], [3, 5]]).tree
    assert 0 == Hierarchy.balanced(1).tree


def partition_of(game: Game, tree: Tree | None = None, *, budget: int | None = None, seed: int = 0) -> Estimate:
    return partition(
        game,
        range(len(game.value)),
        seed=seed,
        limits=Limits(0, budget),
        slice_rows=SLICE_ROWS,
        hierarchy=None if tree is None else Hierarchy(tree),
    )


def tied_game(n_players: int = 5) -> Game:
    """Players of which many are equal to the background in many of its four rows, which are equal nowhere else."""
    network = random_network(n_players, seed=1)
    rng = np.random.default_rng(1)
    background = np.where(rng.random((4, n_players)) < 0.4, 1, np.arange(2, 6)[:, np.newaxis])
    return game_of(network.evaluate, np.ones(n_players), background, weights=rng.dirichlet(np.ones(4)))


def orders(tree: Tree) -> Iterator[tuple[int, ...]]:
    if isinstance(tree, int):
        yield (tree,)
        return
    for parts in itertools.permutations(tree):
        for inner in itertools.product(*(list(orders(part)) for part in parts)):
            yield sum(inner, ())


def order_average(game: Game, tree: Tree) -> Any:
    """Owen values by their definition."""
    every = list(orders(tree))
    attributions = np.zeros((game.n_players, 2))
    for order in every:
        rows = game.background.rows.copy()
        before = game.background.weights @ game.evaluate(rows)
        for player in order:
            rows[:, player] = game.row[player]
            after = game.background.weights @ game.evaluate(rows)
            attributions[player] += (after - before) / len(every)
            before = after
    return attributions
