"""Independent estimates are unbiased, and comparison with every coalition finds what is wrong."""

import math

import numpy as np
import pytest
from small_models import Network, by_exact, by_expected_gradients, by_kernel, changed, rows_of, shuffled, subject_of

from explain.exact import exact
from explain.fidelity.truth import (
    compare_with_exact,
    independent_aumann_shapley,
    independent_shapley,
    merged_players,
)
from explain.game import Background, Game
from explain.players import feature_players, pixel_players

NETWORK = Network(7, 0)


def game_of(row: int = 0) -> Game:
    game = subject_of(NETWORK.evaluate, by_exact, 7, seed=0).game(rows_of(4, 7, 0)[row])
    weights = np.arange(1.0, 17) / 136
    return Game(
        game.evaluate, game.row, Background(game.background.rows, weights, game.background.outputs), game.players
    )


def test_independent_shapley_values_are_exact_on_average() -> None:
    game = game_of()
    true = exact(game, slice_rows=4096).attributions[:, 1]

    means = [independent_shapley(game, 1, replicates=20, seed=seed, slice_rows=64).mean for seed in range(200)]

    error = np.std(means, axis=0) / math.sqrt(200)
    assert (np.abs(np.mean(means, axis=0) - true) <= 4 * error).all()
    assert (error < 0.05 * np.abs(true).max()).all()


def test_independent_aumann_shapley_values_agree_with_gradients() -> None:
    game = game_of()
    true = by_expected_gradients(NETWORK, 1e-3)(game, (1,), 0).attributions[:, 0]

    means = [independent_aumann_shapley(game, 1, replicates=200, seed=seed, slice_rows=64).mean for seed in range(100)]

    error = np.std(means, axis=0) / math.sqrt(100)
    assert (np.abs(np.mean(means, axis=0) - true) <= 4 * error + 1e-3 * np.abs(true).max()).all()
    assert (error < 0.2 * np.abs(true).max()).all()


@pytest.mark.parametrize("estimator", [independent_shapley, independent_aumann_shapley])
def test_squared_error_is_right_on_average(estimator: object) -> None:
    game = game_of()
    linear = np.arange(1.0, 8)
    game = Game(
        lambda rows: rows.astype(np.float64) @ linear[:, np.newaxis],
        game.row,
        Background.of(game.background.rows, lambda rows: rows.astype(np.float64) @ linear[:, np.newaxis]),
        game.players,
    )
    true = linear * (game.row - game.background.rows.mean(axis=0, dtype=np.float64))
    wrong = true + np.array([1.0, 0, -2, 0, 0, 0, 0.5])

    for attributions, expected in ((true, 0.0), (wrong, 5.25)):
        errors = [
            estimator(game, 0, replicates=30, seed=seed, slice_rows=64).squared_error(attributions)  # type: ignore[operator]
            for seed in range(200)
        ]
        assert np.mean(errors) == pytest.approx(expected, abs=4 * np.std(errors) / math.sqrt(200))


def test_one_background_row_and_an_additive_model_leave_no_error_at_all() -> None:
    game = Game(
        lambda rows: rows.astype(np.float64).sum(axis=1, keepdims=True),
        np.arange(1, 6, dtype=np.float32),
        Background.of(np.zeros((1, 5), np.float32), lambda rows: rows.astype(np.float64).sum(axis=1, keepdims=True)),
        feature_players(5),
    )

    estimate = independent_shapley(game, 0, replicates=3, seed=0, slice_rows=5)

    np.testing.assert_allclose(estimate.mean, [1, 2, 3, 4, 5])
    assert estimate.squared_error(np.arange(1.0, 6)) == pytest.approx(0, abs=1e-12)
    assert estimate.squared_error(np.zeros(5)) == pytest.approx(55)


def test_slices_change_nothing() -> None:
    game = game_of()

    one, other = (independent_shapley(game, 0, replicates=9, seed=0, slice_rows=rows) for rows in (5, 4096))

    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)


def test_a_single_player_gets_everything() -> None:
    game = Game(
        lambda rows: 2.0 * rows,
        np.array([3], np.float32),
        Background.of(np.array([[0], [1]], np.float32), lambda rows: 2.0 * rows),
        feature_players(1),
    )

    estimate = independent_shapley(game, 0, replicates=400, seed=0, slice_rows=8)

    assert estimate.mean[0] == pytest.approx(5, abs=0.3)


def test_exact_values_are_found_right_and_covered() -> None:
    found = compare_with_exact(by_exact, game_of(), 0, n_players=10, n_background=8, seed=0, slice_rows=4096)

    assert found.relative_error < 1e-9
    assert 1 == found.covered
    assert not found.wrong_though_exact


def test_shuffled_values_that_claim_to_be_exact_are_found_wrong() -> None:
    spoilt = changed(by_exact, shuffled)

    found = compare_with_exact(spoilt, game_of(), 0, n_players=10, n_background=8, seed=0, slice_rows=4096)

    assert found.relative_error > 0.5
    assert found.wrong_though_exact


def test_an_explainer_that_states_no_errors_has_no_coverage() -> None:
    silent = changed(by_exact, lambda _, values: values, half_widths=np.full((7, 1), np.nan))

    found = compare_with_exact(silent, game_of(), 0, n_players=10, n_background=8, seed=0, slice_rows=4096)

    assert math.isnan(found.covered)
    assert not found.wrong_though_exact


def test_sampled_values_are_compared_by_their_own_intervals() -> None:
    found = [
        compare_with_exact(by_kernel(0.05), game_of(row), 0, n_players=7, n_background=16, seed=row, slice_rows=4096)
        for row in range(4)
    ]

    assert np.mean([comparison.covered for comparison in found]) > 0.8
    assert not any(comparison.wrong_though_exact for comparison in found)


@pytest.mark.parametrize(
    ("players", "n_players", "expected"),
    [
        pytest.param(feature_players(5), 5, [0, 1, 2, 3, 4], id="few enough"),
        pytest.param(feature_players(7), 3, [0, 0, 0, 1, 1, 2, 2], id="neighbours"),
    ],
)
def test_columns_are_merged_with_their_neighbours(players: np.ndarray, n_players: int, expected: list[int]) -> None:
    row = np.zeros(len(players), np.float32)
    game = Game(lambda rows: rows[:, :1], row, Background.of(row[np.newaxis], lambda rows: rows[:, :1]), players)

    assert expected == merged_players(game, n_players).tolist()


def test_pixels_are_merged_into_square_blocks() -> None:
    row = np.zeros((4, 6, 2), np.float32)
    background = Background.of(row[np.newaxis], lambda rows: rows[:, 0, 0])
    game = Game(lambda rows: rows[:, 0, 0], row, background, pixel_players((4, 6, 2)))

    merged = merged_players(game, 5)

    np.testing.assert_array_equal(merged[..., 0], merged[..., 1])
    assert [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2 == merged[..., 0].tolist()
