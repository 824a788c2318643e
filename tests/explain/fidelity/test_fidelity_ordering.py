"""Insertion and deletion curves: areas known by hand, random orders, edges."""

import numpy as np
import pytest

from explain.fidelity.ordering import descending, edge_attributions, ordering_curves, random_orders
from explain.game import Background, Evaluate, Game
from explain.players import feature_players, pixel_players


def game_of(evaluate: Evaluate, row: list[float]) -> Game:
    background = Background.of(np.zeros((1, len(row)), np.float32), evaluate)
    return Game(evaluate, np.array(row, np.float32), background, feature_players(len(row)))


def test_deletion_of_the_only_used_feature_ends_at_once() -> None:
    game = game_of(lambda rows: 6 * rows[:, 2:3], [1, 1, 1, 1])
    orders = np.array([[2, 0, 1, 3], [0, 1, 3, 2]])

    curves = ordering_curves(game, 0, orders, slice_rows=3)

    assert [0, 0.25, 0.5, 0.75, 1] == curves.shares.tolist()
    assert [6, 0, 0, 0, 0] == curves.deletion[0].tolist()
    assert [0, 6, 6, 6, 6] == curves.insertion[0].tolist()
    # Heights by trapezoids: one step falls from 6 to 0 over a quarter of the players.
    np.testing.assert_allclose(curves.deletion_areas, [0.75, 5.25])
    np.testing.assert_allclose(curves.insertion_areas, [5.25, 0.75])
    np.testing.assert_allclose(curves.gains, [4.5, -4.5])


def test_no_order_of_an_additive_model_gains_more_than_that_of_its_attributions() -> None:
    weights = np.array([3.0, -2.0, 1.0, 0.5, -0.25, 4.0], np.float32)
    game = game_of(lambda rows: rows @ weights[:, np.newaxis], [1] * 6)
    orders = np.concatenate([descending(weights[np.newaxis].astype(float), seed=0), random_orders(200, 6, seed=1)])

    gains = ordering_curves(game, 0, orders, slice_rows=64).gains

    assert gains[0] == pytest.approx(gains.max())


def test_random_orders_gain_nothing_on_average() -> None:
    game = game_of(lambda rows: np.tanh(rows @ np.ones((8, 1))) * rows[:, :1], [2, 1, 1, 0.5, -1, 1, 1, 3])

    gains = ordering_curves(game, 0, random_orders(4000, 8, seed=0), slice_rows=4096).gains

    assert gains.mean() == pytest.approx(0, abs=4 * gains.std() / np.sqrt(4000))
    assert gains.std() > 0.1


def test_more_players_than_steps_go_in_groups() -> None:
    game = game_of(lambda rows: rows.sum(axis=1, keepdims=True), [1] * 50)

    curves = ordering_curves(game, 0, random_orders(3, 50, seed=0), slice_rows=4096, steps=10)

    np.testing.assert_allclose(curves.shares, np.arange(11) / 10)
    np.testing.assert_allclose(curves.insertion, np.tile(np.arange(0, 51, 5), (3, 1)))
    np.testing.assert_allclose(curves.deletion, np.tile(np.arange(50, -1, -5), (3, 1)))


def test_one_player_has_the_two_ends_alone() -> None:
    game = game_of(lambda rows: rows * 5, [2])

    curves = ordering_curves(game, 0, np.array([[0]]), slice_rows=8)

    assert [[0, 10]] == curves.insertion.tolist()
    assert [[10, 0]] == curves.deletion.tolist()


def test_ties_fall_as_the_seed_says_and_not_by_number() -> None:
    ties = np.zeros((1, 30))

    first, again, other = (descending(ties, seed=seed)[0].tolist() for seed in (0, 0, 1))

    assert first == again
    assert first != other
    assert list(range(30)) != first
    assert list(range(30)) == sorted(first)


def test_edges_are_where_brightness_changes() -> None:
    image = np.zeros((6, 6, 2), np.float32)
    image[:, 3:] = 1
    background = Background.of(np.zeros((1, 6, 6, 2), np.float32), first_pixel)
    game = Game(first_pixel, image, background, pixel_players((6, 6, 2)))

    edges = edge_attributions(game).reshape(6, 6)

    # A step of 1 has a Sobel gradient of 4 on both of its sides, in each of two channels.
    np.testing.assert_allclose(edges[:, 2:4], 8)
    assert 0 == np.delete(edges, [2, 3], axis=1).max()


def first_pixel(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), -1)[:, :1]
