"""Reference rows by name, and few weighted rows in place of many."""

from typing import Any

import numpy as np
import pytest

from explain.backgrounds import baseline, blurred, named_background, summarize
from explain.exact import exact
from explain.game import Background, Game
from explain.limits import Limits
from explain.players import feature_players, pixel_players
from explain.regression import kernel

WEIGHTS = np.array([0.5, 0.25, 0.25])


def test_sample_is_what_the_version_holds() -> None:
    sample = Background.of(images(3), brightness, WEIGHTS)

    assert named_background("sample", images(1)[0], sample, brightness) is sample


def test_mean_is_one_weighted_row_with_its_own_output() -> None:
    """The base value is the output for the mean image, not the mean output."""
    rows = images(3) * np.array([0.2, 1, 2], np.float32).reshape(3, 1, 1, 1)
    sample = Background.of(rows, brightness, WEIGHTS)

    background = named_background("mean", images(1)[0], sample, brightness)

    expected = (0.5 * rows[0] + 0.25 * rows[1] + 0.25 * rows[2]).astype(np.float32)
    np.testing.assert_allclose(background.rows, expected[np.newaxis], rtol=1e-6)
    assert background.rows.dtype == np.float32
    np.testing.assert_array_equal(background.weights, [1.0])
    np.testing.assert_allclose(background.base_values, brightness(background.rows)[0])
    assert abs(background.base_values[0] - sample.base_values[0]) > 1e-3
    np.testing.assert_array_equal(background.spreads, [0.0])


def test_zero_is_one_row_of_zeros() -> None:
    row = np.ones((5, 2), np.float32)

    background = named_background("zero", row, baseline(row, brightness), brightness)

    np.testing.assert_array_equal(background.rows, np.zeros((1, 5, 2), np.float32))


def test_blur_keeps_light_and_colour_and_loses_shapes() -> None:
    image = np.zeros((32, 32, 3), np.float32)
    image[8:24, 8:24] = [200, 100, 0]
    # Stripes of one pixel within the square.
    image[8:24:2, 8:24] /= 2

    smooth = blurred(image)

    np.testing.assert_allclose(smooth.mean(axis=(0, 1)), image.mean(axis=(0, 1)), rtol=0.05)
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.1 * np.abs(np.diff(image, axis=0)).max()
    assert np.abs(np.diff(blurred(image, sigma=0.3), axis=0)).max() > np.abs(np.diff(smooth, axis=0)).max() * 5


def test_blur_depends_on_the_explained_image() -> None:
    one, other = images(2)
    sample = Background.of(images(3), brightness)

    rows = [named_background("blur", image, sample, brightness).rows[0] for image in (one, other)]

    np.testing.assert_array_equal(rows[0], blurred(one))
    assert np.abs(rows[0] - rows[1]).max() > 0.01


@pytest.mark.parametrize("colour", [0.0, 0.1, 123.456])
def test_an_image_of_one_colour_has_nothing_to_explain_against_its_blur(colour: float) -> None:
    """It is its own blur: every player is a dummy, and the attributions are zeros."""
    image = np.full((8, 8, 3), colour, np.float32)
    background = named_background("blur", image, baseline(image, brightness), brightness)
    game = Game(brightness, image, background, pixel_players(image.shape))

    estimates = [
        exact(game, slice_rows=64),
        kernel(game, [0], seed=0, limits=Limits(tolerance=0.01), slice_rows=64),
    ]

    for estimate in estimates:
        np.testing.assert_array_equal(estimate.attributions, np.zeros((64, 1)))
        np.testing.assert_array_equal(estimate.efficiency_residuals, [0.0])


def test_a_background_of_one_row_explains_against_that_row() -> None:
    rows = np.array([[1.0, 2.0, 3.0]], np.float32)
    row = np.array([4.0, 2.0, 5.0], np.float32)

    def evaluate(rows: Any) -> Any:
        return (rows[:, :1] * rows[:, 2:]).astype(np.float64)

    estimate = exact(Game(evaluate, row, Background.of(rows, evaluate), feature_players(3)), slice_rows=8)

    # 20 - 3 between the first and the last: half of (3*3 + 3*5), and half of (2*1 + 2*4).
    np.testing.assert_allclose(estimate.attributions[:, 0], [12, 0, 5])


def test_a_summary_keeps_real_rows_with_the_weight_of_those_near_them() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [100, 0], [0, 100]])
    rows = np.concatenate([centre + rng.normal(size=(n, 2)) for centre, n in zip(centres, (10, 30, 60), strict=True)])

    kept, weights = summarize(rows.astype(np.float32), 3, seed=0)

    assert all((rows.astype(np.float32) == row).all(axis=1).any() for row in kept)
    np.testing.assert_allclose(weights, [0.1, 0.3, 0.6])
    np.testing.assert_allclose(kept, centres, atol=1.5)


def test_a_summary_counts_weights() -> None:
    rows = np.repeat([[0.0], [10.0]], 5, axis=0).astype(np.float32)

    kept, weights = summarize(rows, 2, seed=0, weights=np.array([0.18] * 5 + [0.02] * 5))

    np.testing.assert_array_equal(kept, [[0.0], [10.0]])
    np.testing.assert_allclose(weights, [0.9, 0.1])


def test_a_summary_has_no_more_rows_than_there_are_different_ones() -> None:
    rows = np.tile(np.array([[1.0, 5.0], [2.0, 5.0]], np.float32), (20, 1))

    kept, weights = summarize(rows, 7, seed=0)

    np.testing.assert_array_equal(kept, [[1, 5], [2, 5]])
    np.testing.assert_allclose(weights, [0.5, 0.5])


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).uniform(0, 16, (n, 8, 8, 3)).astype(np.float32)


def brightness(rows: Any) -> np.ndarray:
    return np.tanh(rows.astype(np.float64).reshape(len(rows), -1).mean(axis=1, keepdims=True) ** 2 / 80)
