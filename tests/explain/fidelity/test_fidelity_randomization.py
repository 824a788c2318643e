"""The model randomization test: entropies by hand, a linear model, an explainer that is blind to the model."""

import math

import numpy as np
import pytest

from explain.fidelity.randomization import entropy, entropy_rises, likeness, randomized_weights


def test_entropy_is_zero_for_one_player_and_largest_for_all_alike() -> None:
    found = entropy(np.array([[0, -7, 0, 0], [2, -2, 2, 2], [3, 1, 0, 0], [0, 0, 0, 0]], dtype=float))

    assert 0 == found[0]
    assert found[1] == pytest.approx(math.log(4))
    assert found[2] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert math.isnan(found[3])


def test_entropy_of_a_linear_model_rises_when_its_few_weights_become_many() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 10))
    learned = np.array([5.0, 3.0, *[0.01] * 8])
    (random,) = randomized_weights([learned], seed=1)

    rises = entropy_rises(rows * learned, rows * random)
    correlation, _ = likeness(rows * learned, rows * random, seed=0)

    assert rises.mean() > 0.5
    assert abs(correlation) < 0.5


def test_explanation_that_is_blind_to_the_model_does_not_change() -> None:
    maps = np.abs(np.random.default_rng(0).normal(size=(8, 20)))

    correlation, p_value = likeness(maps, maps, seed=0)

    assert correlation == pytest.approx(1)
    assert p_value < 0.001
    np.testing.assert_array_equal(entropy_rises(maps, maps), np.zeros(8))


def test_six_players_are_too_few_to_tell() -> None:
    maps = np.tile(np.arange(6.0), (8, 1))

    correlation, p_value = likeness(maps, maps, seed=0)

    assert correlation == pytest.approx(1)
    assert p_value > 0.001


def test_rows_that_move_together_are_not_many_observations() -> None:
    """Two unlike linear models give every row the same correlation: many rows make chance no rarer."""
    rng = np.random.default_rng(0)
    p_values = [likeness(*(np.tile(rng.normal(size=8), (32, 1)) for _ in range(2)), seed=seed)[1] for seed in range(40)]

    assert min(p_values) > 0.001
    assert 0.3 < np.mean(p_values) < 0.7


def test_explanations_of_zero_say_nothing() -> None:
    correlation, p_value = likeness(np.zeros((3, 9)), np.zeros((3, 9)), seed=0)

    assert math.isnan(correlation)
    assert 1 == p_value


def test_random_weights_keep_size_shape_and_type_and_forget_the_rest() -> None:
    weights = [np.full((300, 20), 3.0, np.float32), np.zeros(5, np.float32)]

    kernel, bias = randomized_weights(weights, seed=0)

    assert (kernel.dtype, kernel.shape) == (np.float32, (300, 20))
    assert kernel.std() == pytest.approx(3, rel=0.05)
    assert kernel.mean() == pytest.approx(0, abs=0.15)
    np.testing.assert_array_equal(bias, np.zeros(5))
    np.testing.assert_array_equal(kernel, randomized_weights(weights, seed=0)[0])
