"""Values worked out by hand, by every method that gives Shapley or Owen values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from known_games import coalition_game, game_of

from explain.attribution import Estimate
from explain.exact import exact
from explain.game import Game
from explain.hierarchy import Hierarchy
from explain.limits import Limits
from explain.partition import partition
from explain.permutation import permutation
from explain.regression import kernel

Method = Callable[[Game], Estimate]
SLICE_ROWS = 64


def flat_partition(game: Game) -> Estimate:
    """With one group of all players, Owen values are Shapley values."""
    tree = tuple(range(game.n_players)) if game.n_players > 1 else 0
    return partition(game, targets(game), seed=0, limits=Limits(0), slice_rows=SLICE_ROWS, hierarchy=Hierarchy(tree))


METHODS: dict[str, Method] = {
    "exact": lambda game: exact(game, slice_rows=SLICE_ROWS),
    "kernel": lambda game: kernel(game, targets(game), seed=0, limits=Limits(0), slice_rows=SLICE_ROWS),
    "permutation": lambda game: permutation(game, targets(game), seed=0, limits=Limits(0), slice_rows=SLICE_ROWS),
    "partition": flat_partition,
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


@pytest.mark.parametrize(
    ("row", "baseline", "players", "expected"),
    [
        pytest.param([20, 50, 30], [4, 4, 4], [0, 1, 2], [64, 184, 104], id="baseline 4"),
        pytest.param([20, 50, 30], [10, 20, 10], [0, 1, 2], [40, 120, 80], id="baseline of each column"),
        pytest.param([20, 50, 30], [0, 0, 0], [0, 0, 1], [275, 115], id="two columns as one player"),
        pytest.param([20, 50, 30], [0, 0, 0], [0, 1, 2], [230 / 3, 590 / 3, 350 / 3], id="zero baseline"),
        pytest.param([2, 10, 3], [0, 0, 0], [0, 1, 2], [7.0, 32.5, 10.5], id="across the bend"),
    ],
)
def test_small_network(
    method: Method, row: list[float], baseline: list[float], players: list[int], expected: list[float]
) -> None:
    game = game_of(hand_network, row, [baseline], players=np.array(players))

    estimate = method(game)

    np.testing.assert_allclose(estimate.attributions[:, 0], expected, rtol=0, atol=1e-9)
    assert "exact" == estimate.stop_reason
    np.testing.assert_array_equal(estimate.standard_errors, np.zeros((len(expected), 1)))


AND = [1 / 3] * 3, [1 / 2] * 3
OR = [1 / 3] * 3, [-1 / 2] * 3
XOR = [1 / 3] * 3, [0.0] * 3
LOGIC = {
    "and": (lambda rows: rows.all(axis=1), *AND),
    "or": (lambda rows: rows.any(axis=1), *OR),
    "xor": (lambda rows: rows.sum(axis=1) % 2, *XOR),
}


@pytest.mark.parametrize("gate", LOGIC)
def test_logic_gates_of_three_players_and_one_that_does_not_matter(method: Method, gate: str) -> None:
    value_of, shares, _ = LOGIC[gate]
    game = coalition_game(4, lambda rows: np.asarray(value_of(rows[:, :3]), dtype=float)[:, np.newaxis])

    estimate = method(game)

    np.testing.assert_allclose(estimate.attributions[:, 0], [*shares, 0], rtol=0, atol=1e-12)


def test_exclusive_or_of_two_players_gives_nothing_to_either(method: Method) -> None:
    game = coalition_game(2, lambda rows: (rows.sum(axis=1) % 2)[:, np.newaxis])

    estimate = method(game)

    np.testing.assert_allclose(estimate.attributions, 0, atol=1e-12)


@pytest.mark.parametrize("gate", LOGIC)
@pytest.mark.parametrize("name", ["exact", "kernel"])
def test_interactions_in_logic_gates(name: str, gate: str) -> None:
    value_of, _, expected = LOGIC[gate]
    game = coalition_game(3, lambda rows: np.asarray(value_of(rows), dtype=float)[:, np.newaxis])

    interactions = with_interactions(name, game).interactions

    assert interactions is not None
    np.testing.assert_allclose(interactions.values[:, 0], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(interactions.standard_errors, np.zeros((3, 1)))
    assert [[0, 1], [0, 2], [1, 2]] == interactions.pairs.tolist()


@pytest.mark.parametrize("name", ["exact", "kernel"])
def test_interaction_of_exclusive_or_of_two_players_is_minus_two(name: str) -> None:
    game = coalition_game(2, lambda rows: (rows.sum(axis=1) % 2)[:, np.newaxis])

    interactions = with_interactions(name, game).interactions

    assert interactions is not None
    np.testing.assert_allclose(interactions.values, [[-2.0]], atol=1e-12)


def test_owen_value_of_and_is_shared_by_groups_first() -> None:
    game = coalition_game(3, lambda rows: rows.all(axis=1, keepdims=True).astype(float))

    estimate = partition(game, [0], seed=0, limits=Limits(0), slice_rows=SLICE_ROWS, hierarchy=Hierarchy(((0, 1), 2)))

    np.testing.assert_allclose(estimate.attributions[:, 0], [1 / 4, 1 / 4, 1 / 2], atol=1e-12)


def hand_network(rows: Any) -> Any:
    """x(3) -> Dense 4 (ones, bias [-10, 1, 1, 1]) -> ReLU -> Dense 1 (ones, bias -1)."""
    sums = rows.astype(np.float64).sum(axis=1, keepdims=True)
    return np.maximum(sums - 10, 0) + 3 * np.maximum(sums + 1, 0) - 1


def with_interactions(name: str, game: Game) -> Estimate:
    if name == "exact":
        return exact(game, slice_rows=SLICE_ROWS, interactions=True)
    return kernel(game, targets(game), seed=0, limits=Limits(0), slice_rows=SLICE_ROWS, interactions=True)


def targets(game: Game) -> Sequence[int]:
    return range(len(game.value))
