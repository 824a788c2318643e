"""Interactions of two players: the definition, closed forms, honest errors from a sample."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from known_games import coalition_game, random_network, unanimity_game

from explain.exact import all_coalitions, exact
from explain.game import Background, Game
from explain.interactions import exact_interactions
from explain.limits import Limits
from explain.regression import kernel

SLICE_ROWS = 64


@pytest.mark.parametrize("n_players", [2, 3, 6])
def test_equals_the_definition(n_players: int) -> None:
    values = np.random.default_rng(n_players).normal(size=(2**n_players, 2))

    matrix = exact_interactions(all_coalitions(n_players), values)

    for first, second in itertools.combinations(range(n_players), 2):
        expected = by_definition(n_players, values, first, second)
        np.testing.assert_allclose(matrix[first, second], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(matrix[second, first], expected, rtol=0, atol=1e-12)


def test_of_unanimity_games_are_their_closed_form() -> None:
    known = unanimity_game(11, seed=0)

    interactions = exact(known.game, slice_rows=4096, interactions=True).interactions

    assert interactions is not None
    np.testing.assert_allclose(interactions.values, known.interactions, rtol=0, atol=1e-11)


def test_kernel_that_saw_everything_gives_those_of_exact() -> None:
    game = random_network(7)

    interactions = kernel(game, [1], seed=0, limits=Limits(0), slice_rows=SLICE_ROWS, interactions=True).interactions

    expected = exact(game, slice_rows=SLICE_ROWS, interactions=True).interactions
    assert interactions is not None
    assert expected is not None
    np.testing.assert_allclose(interactions.values, expected.values[:, [1]], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(interactions.standard_errors, np.zeros((21, 1)))


def test_asking_for_interactions_changes_no_attribution_and_costs_nothing() -> None:
    game = random_network(12)

    without, with_them = (
        kernel(game, [0], seed=0, limits=Limits(0, 2000), slice_rows=SLICE_ROWS, interactions=asked)
        for asked in (False, True)
    )

    np.testing.assert_array_equal(without.attributions, with_them.attributions)
    assert without.evaluations == with_them.evaluations
    assert without.interactions is None


@pytest.mark.parametrize(("n_players", "pairs"), [(20, 400), (60, 600), (100, 800)])
def test_sampled_ones_are_met_within_the_stated_errors(n_players: int, pairs: int) -> None:
    known = unanimity_game(n_players, seed=0)

    interactions = kernel(
        known.game, [0, 1], seed=0, limits=Limits(0, 2 * pairs), slice_rows=4096, interactions=True
    ).interactions

    assert interactions is not None
    deviations = (interactions.values - known.interactions) / interactions.standard_errors
    assert 1 / 1.2 < np.sqrt((deviations**2).mean()) < 1.2


def test_model_of_two_by_two_makes_a_sample_nearly_exact_where_no_more_interact() -> None:
    rng = np.random.default_rng(0)
    slopes, bends = rng.normal(size=12), rng.normal(size=(12, 12))
    game = coalition_game(12, lambda rows: (rows @ slopes + np.einsum("ni,ij,nj->n", rows, bends, rows))[:, None])
    first, second = np.triu_indices(12, 1)

    interactions = kernel(
        game, [0], seed=0, limits=Limits(0, 2 * 300), slice_rows=SLICE_ROWS, interactions=True
    ).interactions

    assert interactions is not None
    expected = (bends + bends.T)[first, second]
    assert np.sqrt(((interactions.values[:, 0] - expected) ** 2).mean()) < 0.02 * np.sqrt((expected**2).mean())


def test_players_that_equal_the_background_interact_with_nobody() -> None:
    game = random_network(6)
    rows = game.background.rows.copy()
    rows[:, 2] = game.row[2]
    tied = Game(game.evaluate, game.row, Background.of(rows, game.evaluate), game.players)

    for interactions in (
        exact(tied, slice_rows=SLICE_ROWS, interactions=True).interactions,
        kernel(tied, [0, 1], seed=0, limits=Limits(0, 80), slice_rows=SLICE_ROWS, interactions=True).interactions,
    ):
        assert interactions is not None
        idle = (interactions.pairs == 2).any(axis=1)
        np.testing.assert_array_equal(interactions.values[idle], np.zeros((5, 2)))
        np.testing.assert_array_equal(interactions.standard_errors[idle], np.zeros((5, 2)))
        assert (np.abs(interactions.values[~idle]) > 0).any()


def test_too_few_coalitions_of_a_size_state_no_error() -> None:
    game = random_network(12)

    interactions = kernel(
        game, [0], seed=0, limits=Limits(0, 24 * 8), slice_rows=SLICE_ROWS, interactions=True
    ).interactions

    assert interactions is not None
    assert np.isnan(interactions.standard_errors).all()
    assert np.isfinite(interactions.values).all()


def by_definition(n_players: int, values: Any, first: int, second: int) -> Any:
    others = [player for player in range(n_players) if player not in (first, second)]
    total = np.zeros(values.shape[1])
    for size in range(n_players - 1):
        weight = math.factorial(size) * math.factorial(n_players - size - 2) / math.factorial(n_players - 1)
        for members in itertools.combinations(others, size):
            number = sum(1 << player for player in members)
            one, other = 1 << first, 1 << second
            total += weight * (values[number | one | other] - values[number | one] - values[number | other])
            total += weight * values[number]
    return total
