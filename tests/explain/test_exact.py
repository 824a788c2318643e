"""Exact Shapley values: hand values, brute force, shap, and the axioms."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from explain.exact import all_coalitions, exact, exact_cost, shapley_matrix
from explain.game import Background, Evaluate, Game
from explain.players import feature_players
from models.artifact import Artifact

N_FEATURES, N_BACKGROUND = 5, 7


@pytest.fixture(scope="module")
def hand_network() -> Evaluate:
    """x(3) -> Dense 4 (ones, bias [-10, 1, 1, 1]) -> ReLU -> Dense 2 (ones, bias [-1, 1])."""
    import keras

    from models.training import predict_raw

    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="relu", name="hidden")
    last = keras.layers.Dense(2, name="last")
    model = keras.Model(inputs, last(hidden(inputs)))
    hidden.set_weights([np.ones((3, 4)), np.array([-10.0, 1.0, 1.0, 1.0])])
    last.set_weights([np.ones((4, 2)), np.array([-1.0, 1.0])])
    return lambda rows: predict_raw(model, rows)


@pytest.mark.parametrize(
    ("row", "expected"),
    [([20, 50, 30], [76.6667, 196.6667, 116.6667]), ([2, 10, 3], [7.0, 32.5, 10.5])],
)
def test_hand_computed_values_of_a_small_network(
    hand_network: Evaluate, row: list[float], expected: list[float]
) -> None:
    game = game_of(hand_network, row, [[0, 0, 0]])

    estimate = exact(game, slice_rows=8)

    np.testing.assert_allclose(estimate.attributions[:, 0], expected, atol=1e-4)
    # The outputs differ by a constant only, which no player earns.
    np.testing.assert_allclose(estimate.attributions[:, 1], estimate.attributions[:, 0], atol=1e-4)


def test_elements_can_play_as_one_player(hand_network: Evaluate) -> None:
    game = game_of(hand_network, [20, 50, 30], [[0, 0, 0]], players=np.array([0, 0, 1]))

    estimate = exact(game, slice_rows=8)

    np.testing.assert_allclose(estimate.attributions[:, 0], [275, 115], atol=1e-4)


def test_equals_the_average_over_all_permutations() -> None:
    """With unequal weights, several outputs, and players that tie with some background rows."""
    game = random_game(seed=0)
    assert game.differing.any(axis=0).all()
    assert not game.differing.all(axis=1).any()

    estimate = exact(game, slice_rows=50)

    np.testing.assert_allclose(estimate.attributions, permutation_average(game), rtol=0, atol=1e-12)


def test_equals_the_average_over_all_permutations_of_groups() -> None:
    game = random_game(seed=1, players=np.array([2, 0, 1, 0, 2]))

    estimate = exact(game, slice_rows=50)

    assert estimate.attributions.shape == (3, 3)
    np.testing.assert_allclose(estimate.attributions, permutation_average(game), rtol=0, atol=1e-12)


@pytest.mark.long
def test_agrees_with_shap_on_a_trained_network(diabetes_artifact: Artifact) -> None:
    import shap

    from models.training import predict_raw

    model = diabetes_artifact.load_keras()
    background, weights = diabetes_artifact.background
    rows = background[:2] + np.float32(0.5)

    def evaluate(rows: Any) -> Any:
        return predict_raw(model, np.asarray(rows, dtype=np.float32))

    reference = Background.of(background, evaluate, weights)
    games = [Game(evaluate, row, reference, feature_players(len(row))) for row in rows]
    masker = shap.maskers.Independent(background, max_samples=len(background))
    explainer = shap.ExactExplainer(lambda rows: evaluate(rows)[:, 0].astype(np.float64), masker)

    estimates = [exact(game, slice_rows=4096) for game in games]

    expected = explainer(rows).values
    for estimate, values in zip(estimates, expected, strict=True):
        assert np.abs(estimate.attributions[:, 0] - values).max() <= 1e-5 * estimate.scales[0]


def test_attributions_add_up_to_the_value() -> None:
    game = random_game(seed=2)

    estimate = exact(game, slice_rows=50)

    np.testing.assert_allclose(
        estimate.base_values + estimate.attributions.sum(axis=0), game.evaluate(game.row[np.newaxis])[0], atol=1e-12
    )
    np.testing.assert_allclose(estimate.efficiency_residuals, 0, atol=1e-12)
    np.testing.assert_allclose(estimate.base_values, game.background.weights @ game.background.outputs, atol=1e-12)


def test_player_that_the_model_ignores_gets_nothing() -> None:
    game = random_game(seed=3, model=smooth_model(3, without=2))

    estimate = exact(game, slice_rows=50)

    np.testing.assert_allclose(estimate.attributions[2], 0, atol=1e-13)
    assert (np.abs(estimate.attributions[[0, 1, 3, 4]]).max(axis=1) > 1e-3).all()


def test_players_that_nothing_tells_apart_get_the_same() -> None:
    rng = np.random.default_rng(4)
    background = rng.normal(size=(N_BACKGROUND, N_FEATURES))
    background[:, 1] = background[:, 0]
    row = rng.normal(size=N_FEATURES)
    row[1] = row[0]

    def model(rows: Any) -> Any:
        rows = rows.astype(np.float64)
        return np.tanh(rows[:, 0] * rows[:, 1] + rows[:, 2] * (rows[:, 0] + rows[:, 1]))[:, np.newaxis]

    estimate = exact(game_of(model, row, background), slice_rows=50)

    assert abs(estimate.attributions[0, 0]) > 1e-3
    np.testing.assert_allclose(estimate.attributions[0], estimate.attributions[1], rtol=0, atol=1e-13)


def test_attributions_of_a_sum_of_models_are_the_sum_of_attributions() -> None:
    first, second = smooth_model(5), smooth_model(6)
    games = [random_game(seed=5, model=model) for model in (first, second, lambda rows: first(rows) - 2 * second(rows))]

    alone, other, together = (exact(game, slice_rows=50).attributions for game in games)

    np.testing.assert_allclose(together, alone - 2 * other, rtol=0, atol=1e-12)


def test_linear_model_gives_weight_times_distance_from_the_mean() -> None:
    weights = np.array([[1.0], [-2.0], [0.5], [0.0], [3.0]])
    game = random_game(seed=6, model=lambda rows: rows.astype(np.float64) @ weights)
    mean = game.background.weights @ game.background.rows.astype(np.float64)

    estimate = exact(game, slice_rows=50)

    np.testing.assert_allclose(estimate.attributions, (game.row - mean)[:, np.newaxis] * weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("slice_rows", [1, 2, 3, 7, 33, 10_000])
def test_result_does_not_depend_on_how_rows_are_cut(slice_rows: int) -> None:
    game = random_game(seed=7)
    expected = exact(game, slice_rows=64).attributions

    attributions = exact(game, slice_rows=slice_rows).attributions

    np.testing.assert_allclose(attributions, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("slice_rows", [1, 5, 64])
def test_evaluations_are_the_rows_that_the_model_saw(slice_rows: int) -> None:
    seen: list[int] = []
    game = random_game(seed=8, seen=seen)

    estimate = exact(game, slice_rows=slice_rows)

    rows_for_the_value = 1
    assert sum(seen) - rows_for_the_value == estimate.evaluations
    assert exact_cost(game) == estimate.evaluations
    assert max(seen) <= slice_rows


def test_players_that_tie_with_a_background_row_are_not_enumerated() -> None:
    row = [1, 2, 3, 4, 5]
    background = [[1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 0, 3, 4, 5], [0, 0, 0, 0, 0]]

    estimate = exact(game_of(smooth_model(9), row, background), slice_rows=50)

    assert 2**0 + 2**1 + 2**2 + 2**5 == estimate.evaluations


def test_row_equal_to_every_background_row_has_nothing_to_share_out() -> None:
    game = game_of(smooth_model(10), [1, 2, 3, 4, 5], [[1, 2, 3, 4, 5]])

    estimate = exact(game, slice_rows=50)

    np.testing.assert_array_equal(estimate.attributions, np.zeros((N_FEATURES, 3)))
    assert 1 == estimate.evaluations


def test_nothing_was_sampled() -> None:
    estimate = exact(random_game(seed=11), slice_rows=50)

    assert ("exact", "shapley", "exact") == (estimate.method, estimate.estimand, estimate.stop_reason)
    np.testing.assert_array_equal(estimate.standard_errors, np.zeros((N_FEATURES, 3)))
    np.testing.assert_array_equal(estimate.half_widths, np.zeros((N_FEATURES, 3)))


@pytest.mark.parametrize("n_players", range(1, 8))
def test_shapley_matrix_shares_out_exactly_the_gain_of_the_grand_coalition(n_players: int) -> None:
    matrix = shapley_matrix(n_players)

    gain = np.zeros(2**n_players)
    gain[-1], gain[0] = 1, -1
    np.testing.assert_allclose(matrix.sum(axis=0), gain, atol=1e-12)


@pytest.mark.parametrize("n_players", range(1, 8))
def test_row_of_the_shapley_matrix_is_a_mean_of_marginal_contributions(n_players: int) -> None:
    coalitions = all_coalitions(n_players)

    matrix = shapley_matrix(n_players)

    with_player = coalitions.T
    np.testing.assert_allclose(np.where(with_player, matrix, 0).sum(axis=1), 1, atol=1e-12)
    for player in range(n_players):
        without = np.flatnonzero(~coalitions[:, player])
        np.testing.assert_array_equal(matrix[player, without + 2**player], -matrix[player, without])


def test_shapley_matrix_of_three_players_is_the_textbook_one() -> None:
    matrix = shapley_matrix(3)

    # coalitions {}, 0, 1, 01, 2, 02, 12, 012; the weights of player 0
    np.testing.assert_allclose(matrix[0], [-1 / 3, 1 / 3, -1 / 6, 1 / 6, -1 / 6, 1 / 6, -1 / 3, 1 / 3])


def game_of(model: Evaluate, row: Any, background: Any, *, weights: Any = None, players: Any = None) -> Game:
    row = np.asarray(row, dtype=np.float32)
    reference = Background.of(np.asarray(background, dtype=np.float32), model, weights)
    return Game(model, row, reference, feature_players(len(row)) if players is None else players)


def random_game(
    *, seed: int, model: Evaluate | None = None, players: Any = None, seen: list[int] | None = None
) -> Game:
    """A row and an unequally weighted background of small integers, so that many elements tie."""
    rng = np.random.default_rng(seed)
    model = model or smooth_model(seed)
    row = rng.integers(0, 3, size=N_FEATURES)
    background = rng.integers(0, 3, size=(N_BACKGROUND, N_FEATURES))
    # Every background row ties with the row somewhere, and every element differs somewhere.
    background[np.arange(N_BACKGROUND), np.arange(N_BACKGROUND) % N_FEATURES] = row[
        np.arange(N_BACKGROUND) % N_FEATURES
    ]
    background[0, 1:] = (row[1:] + 1) % 3
    background[1, 0] = (row[0] + 1) % 3
    weights = rng.dirichlet(np.ones(N_BACKGROUND))
    game = game_of(model, row, background, weights=weights, players=players)
    if seen is None:
        return game

    def counting(rows: Any) -> Any:
        seen.append(len(rows))
        return model(rows)

    return Game(counting, game.row, game.background, game.players)


def smooth_model(seed: int, *, without: int | None = None) -> Callable[[Any], Any]:
    """A float64 network of five features and three outputs, with interactions of every order."""
    rng = np.random.default_rng(seed)
    inner, outer = rng.normal(size=(N_FEATURES, 8)), rng.normal(size=(8, 3))
    if without is not None:
        inner[without] = 0
    return lambda rows: np.tanh(rows.astype(np.float64) @ inner) @ outer


def permutation_average(game: Game) -> Any:
    """Shapley values by their definition: marginal contributions averaged over all orders of joining."""
    n_players = game.players.max() + 1
    orders = list(itertools.permutations(range(n_players)))
    attributions = np.zeros((n_players, game.background.outputs.shape[1]))
    for weight, reference in zip(game.background.weights, game.background.rows, strict=True):
        for order in orders:
            row = reference.copy()
            before = game.evaluate(row[np.newaxis])[0]
            for player in order:
                row[game.players == player] = game.row[game.players == player]
                after = game.evaluate(row[np.newaxis])[0]
                attributions[player] += weight * (after - before) / len(orders)
                before = after
    return attributions
