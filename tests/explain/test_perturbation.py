"""Occlusion and RISE: known answers, calibrated errors, when they stop, and what they refuse."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall, MethodDoesNotFit, NotFinite, OptionNotUsable
from explain.game import Background, Game, Rows
from explain.limits import Limits
from explain.perturbation import LEAST_PAIRS, occlusion, rise
from explain.players import pixel_players

LIMITLESS = Limits(tolerance=0)
LEAST = 2 * LEAST_PAIRS
IMAGE = (6, 5, 2)
READ = (1, 3)
"""The pixel that `one_pixel` reads."""


def test_occluding_one_column_of_a_linear_model_gives_weight_times_distance_from_the_mean() -> None:
    slopes = np.array([[1.0, 0.5], [-2.0, 0.0], [0.5, 3.0], [0.0, 1.0]])
    game = game_of(
        lambda rows: rows @ slopes, row=[1, 2, 3, 4], background=[[0, 1, 5, 2], [3, 1, 1, 0]], weights=[1, 3]
    )
    mean = np.array([0.25 * 0 + 0.75 * 3, 1, 0.25 * 5 + 0.75 * 1, 0.25 * 2])
    expected = (np.array([1, 2, 3, 4]) - mean)[:, np.newaxis] * slopes

    by_mean = occlusion(game, [0, 1], limits=LIMITLESS, slice_rows=3)
    by_sample = occlusion(game, [0, 1], limits=LIMITLESS, slice_rows=3, baseline="sample")

    np.testing.assert_allclose(by_mean.attributions, expected, atol=1e-6)
    np.testing.assert_allclose(by_sample.attributions, expected, atol=1e-6)
    np.testing.assert_allclose(by_mean.efficiency_residuals, 0, atol=1e-6)
    assert (4, 8) == (by_mean.evaluations, by_sample.evaluations)


def test_occlusion_by_the_sample_is_what_a_coalition_loses_without_a_player() -> None:
    game = image_game(smooth_model(IMAGE), players=quadrants())
    everyone, without = np.ones((1, 4), dtype=bool), ~np.eye(4, dtype=bool)
    values = [
        game.coalition_values(coalitions, np.arange(4), np.arange(3), slice_rows=64)
        for coalitions in (everyone, without)
    ]

    estimate = occlusion(game, [0, 1], limits=LIMITLESS, slice_rows=7, baseline="sample")

    np.testing.assert_allclose(estimate.attributions, values[0] - values[1], rtol=0, atol=1e-12)


def test_columns_of_one_player_are_occluded_together() -> None:
    players = np.array([1, 0, 1])
    game = game_of(product_of_all, row=[1, 2, 3], background=[[0, 1, 1]], players=players)

    estimate = occlusion(game, [0], limits=LIMITLESS, slice_rows=10)

    np.testing.assert_allclose(estimate.attributions[:, 0], [6 - 3, 6 - 0])


def test_window_of_one_position_gives_each_pixel_its_own_loss() -> None:
    game = image_game(smooth_model(IMAGE))
    mean = game.background.rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    lacking = np.where(np.eye(30, dtype=bool).reshape(30, 6, 5, 1), mean, game.row)

    estimate = occlusion(game, [0, 1], limits=LIMITLESS, slice_rows=64, window=1, stride=1)

    np.testing.assert_allclose(estimate.attributions, game.value - game.evaluate(lacking), rtol=0, atol=1e-6)


def test_overlapping_windows_are_averaged_and_shared_out_evenly() -> None:
    slopes = np.array([3.0, 0.0, 0.0, 6.0])
    game = game_of(
        lambda rows: rows[:, :, 0] @ slopes[:, np.newaxis],
        row=np.ones((4, 1)),
        background=np.zeros((1, 4, 1)),
        players=np.arange(4)[:, np.newaxis],
    )

    estimate = occlusion(game, [0], limits=LIMITLESS, slice_rows=8, window=2, stride=1)

    # windows {0,1}, {1,2}, {2,3} lose 3, 0, 6: halves to their steps, then the mean over the windows of a step
    np.testing.assert_allclose(estimate.attributions[:, 0], [1.5, 0.75, 1.5, 3.0])


@pytest.mark.parametrize(
    ("window", "stride"), [((2, 2), 2), ((3, 2), (2, 1)), (4, 3), ((6, 5), 1), (1, 1), ((5, 5), None), (None, None)]
)
def test_windows_leave_no_pixel_out(window: Any, stride: Any) -> None:
    game = image_game(lambda rows: rows.sum(axis=(1, 2, 3))[:, np.newaxis], background=np.full((1, *IMAGE), -5.0))

    estimate = occlusion(game, [0], limits=LIMITLESS, slice_rows=64, window=window, stride=stride)

    assert (estimate.attributions > 0).all()


def test_windows_that_do_not_overlap_share_out_the_whole_gain_of_a_linear_model() -> None:
    game = image_game(lambda rows: rows.reshape(len(rows), -1) @ np.linspace(-1, 2, 60)[:, np.newaxis])

    estimate = occlusion(game, [0], limits=LIMITLESS, slice_rows=64, window=(2, 5), stride=(2, 5))

    np.testing.assert_allclose(estimate.efficiency_residuals, 0, atol=1e-5 * estimate.scales[0])


def test_series_are_occluded_window_by_window_or_player_by_player() -> None:
    def second_channel(rows: Any) -> Any:
        return rows[:, 2, [1]]

    row, background = np.ones((6, 2)), np.zeros((2, 6, 2))
    window_and_channel = np.array([[0, 1]] * 3 + [[2, 3]] * 3)
    steps = np.repeat(np.arange(6)[:, np.newaxis], 2, axis=1)

    by_player = occlusion(
        game_of(second_channel, row=row, background=background, players=window_and_channel),
        [0],
        limits=LIMITLESS,
        slice_rows=8,
    )
    by_step = occlusion(
        game_of(second_channel, row=row, background=background, players=steps), [0], limits=LIMITLESS, slice_rows=8
    )

    np.testing.assert_allclose(by_player.attributions[:, 0], [0, 1, 0, 0])
    # Windows of 2 steps, one step apart: two of five hold step 2; each step of them gets half of the loss.
    np.testing.assert_allclose(by_step.attributions[:, 0], [0, 0.25, 0.5, 0.25, 0, 0])


def test_number_as_baseline_replaces_every_value() -> None:
    game = game_of(product_of_all, row=[1, 2, 3], background=[[9, 9, 9]])

    estimate = occlusion(game, [0], limits=LIMITLESS, slice_rows=8, baseline=1.0)

    np.testing.assert_allclose(estimate.attributions[:, 0], [0, 3, 4])
    assert 2 == estimate.evaluations


def test_image_of_one_colour_that_is_the_background_has_nothing_to_lose() -> None:
    colour = np.full((1, *IMAGE), 0.3)
    game = game_of(smooth_model(IMAGE), row=colour[0], background=colour.repeat(3, axis=0), players=pixels())

    occluded = occlusion(game, [0, 1], limits=LIMITLESS, slice_rows=8)
    masked = rise(game, [0, 1], seed=0, limits=LIMITLESS, slice_rows=64)

    assert 0 == occluded.evaluations
    np.testing.assert_array_equal(occluded.attributions, np.zeros((30, 2)))
    np.testing.assert_array_equal(masked.attributions, np.zeros((30, 2)))
    assert ("closed-form", "tolerance", LEAST) == (occluded.stop_reason, masked.stop_reason, masked.evaluations)


def test_image_of_one_colour_is_explained_against_another() -> None:
    game = game_of(one_pixel, row=np.ones(IMAGE), background=np.zeros((1, *IMAGE)), players=pixels())

    occluded = occlusion(game, [0], limits=LIMITLESS, slice_rows=8, window=1, stride=1)
    masked = rise(game, [0], seed=0, limits=Limits(0, 1000), slice_rows=64)

    np.testing.assert_array_equal(np.flatnonzero(occluded.attributions), [READ[0] * IMAGE[1] + READ[1]])
    assert READ == peak(masked)


def test_nothing_is_sampled_in_occlusion() -> None:
    estimate = occlusion(image_game(smooth_model(IMAGE)), [1], limits=LIMITLESS, slice_rows=8)

    assert ("occlusion", "saliency", "closed-form") == (estimate.method, estimate.estimand, estimate.stop_reason)
    assert np.isnan(estimate.standard_errors).all()
    assert np.isnan(estimate.half_widths).all()


@pytest.mark.parametrize("slice_rows", [1, 2, 5, 1000])
def test_occlusion_does_not_depend_on_how_rows_are_cut(slice_rows: int) -> None:
    seen: list[int] = []
    game = image_game(smooth_model(IMAGE), seen=seen)
    expected = occlusion(image_game(smooth_model(IMAGE)), [0, 1], limits=LIMITLESS, slice_rows=64)

    estimate = occlusion(game, [0, 1], limits=LIMITLESS, slice_rows=slice_rows)

    np.testing.assert_array_equal(expected.attributions, estimate.attributions)
    assert estimate.evaluations == sum(seen) - 1
    assert max(seen) <= slice_rows


def test_rise_peaks_at_the_pixel_that_is_read() -> None:
    estimate = rise(image_game(one_pixel), [0], seed=0, limits=Limits(0, 2000), slice_rows=256)

    assert READ == peak(estimate)


@pytest.mark.parametrize(
    ("cells", "budget"),
    [
        pytest.param(3, LEAST, id="least budget"),
        pytest.param((6, 5), 400, id="a cell is a pixel"),
        pytest.param((2, 3), 400, id="coarse"),
    ],
)
def test_intervals_of_rise_cover_the_true_map_as_often_as_they_say(cells: Any, budget: int) -> None:
    game = image_game(one_pixel)
    true = map_of_one_pixel(game, cells)

    estimates = [
        rise(game, [0], seed=seed, limits=Limits(0, budget), slice_rows=64, cells=cells) for seed in range(150)
    ]

    errors = np.array([estimate.attributions[:, 0] - true for estimate in estimates])
    half_widths = np.array([estimate.half_widths[:, 0] for estimate in estimates])
    claimed = np.array([estimate.standard_errors[:, 0] for estimate in estimates])
    # The pixel that is read has no error but rounding.
    assert 0.92 <= (np.abs(errors) <= half_widths + 1e-6).mean() <= 0.98
    assert 0.9 <= np.sqrt((errors**2).mean() / (claimed**2).mean()) <= 1.1
    assert np.abs(errors.mean(axis=0)).max() <= 4.5 * np.sqrt((claimed**2).mean(axis=0) / 150).max()


def test_rise_is_the_mean_output_where_a_position_is_kept_less_the_mean_output() -> None:
    """The definition, by enumeration: one cell a step, so that a mask is any subset of the steps."""
    row, background = np.array([[1.0], [2.0], [3.0]]), np.zeros((1, 3, 1))
    subsets = (np.arange(8)[:, np.newaxis] >> np.arange(3) & 1).astype(float)
    outputs = curved_sum((subsets[..., np.newaxis] * row).astype(np.float32))[:, 0]
    expected = [outputs[subsets[:, step] == 1].mean() - outputs.mean() for step in range(3)]
    game = game_of(curved_sum, row=row, background=background, players=np.arange(3)[:, np.newaxis])

    estimate = rise(game, [0], seed=0, limits=Limits(0, 40_000), slice_rows=4096, cells=3)

    np.testing.assert_array_less(np.abs(estimate.attributions[:, 0] - expected), 4 * estimate.standard_errors[:, 0])
    assert estimate.standard_errors.max() < 0.01 * max(expected)


def test_segment_gets_the_sum_of_its_pixels() -> None:
    pixels = rise(image_game(smooth_model(IMAGE)), [0, 1], seed=1, limits=Limits(0, 500), slice_rows=64)
    segments = rise(
        image_game(smooth_model(IMAGE), players=quadrants()), [0, 1], seed=1, limits=Limits(0, 500), slice_rows=64
    )

    owner = quadrants()[..., 0].reshape(-1)
    sums = [pixels.attributions[owner == segment].sum(axis=0) for segment in range(4)]
    np.testing.assert_allclose(segments.attributions, sums, rtol=1e-9)


def test_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    game = image_game(smooth_model(IMAGE))

    first, again, other = (rise(game, [0], seed=seed, limits=Limits(0, 300), slice_rows=64) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first.attributions, again.attributions)
    np.testing.assert_array_equal(first.standard_errors, again.standard_errors)
    assert (first.attributions != other.attributions).all()


def test_longer_run_begins_with_the_masks_of_a_shorter_one() -> None:
    rows: list[Any] = []

    def recording(batch: Any) -> Any:
        rows.append(batch.copy())
        return smooth_model(IMAGE)(batch)

    game = image_game(recording)
    shorter = rise(game, [0], seed=3, limits=Limits(0, 128), slice_rows=64)
    first = np.concatenate([batch[:32] for batch in rows if len(batch) == 64])
    rows.clear()

    longer = rise(game, [0], seed=3, limits=Limits(0, 640), slice_rows=128)

    then = np.concatenate([batch[: len(batch) // 2] for batch in rows])
    assert (128, 640) == (shorter.evaluations, longer.evaluations)
    np.testing.assert_array_equal(first, then[: len(first)])


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(0, None, may_go_on=lambda rows: rows < 300), id="deadline"),
        pytest.param(Limits(0, 700), id="budget"),
        pytest.param(Limits(0.05, None), id="tolerance"),
    ],
)
def test_replay_of_the_evaluations_gives_the_same_bits_and_the_same_reason(limits: Limits) -> None:
    game = image_game(smooth_model(IMAGE))
    recorded = rise(game, [0, 1], seed=5, limits=limits, slice_rows=64)

    replayed = rise(
        game,
        [0, 1],
        seed=5,
        limits=replace(limits, may_go_on=lambda _: False, evaluations=recorded.evaluations),
        slice_rows=64,
    )

    assert (recorded.evaluations, recorded.stop_reason) == (replayed.evaluations, replayed.stop_reason)
    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)
    np.testing.assert_array_equal(recorded.standard_errors, replayed.standard_errors)


def test_rise_stops_at_the_tolerance() -> None:
    game = image_game(smooth_model(IMAGE))

    estimate = rise(game, [0], seed=0, limits=Limits(0.05), slice_rows=64)

    assert "tolerance" == estimate.stop_reason
    assert estimate.half_widths.max() <= 0.05 * estimate.scales[0]
    assert estimate.evaluations > LEAST


@pytest.mark.parametrize("budget", [LEAST, LEAST + 1, 100, 129, 1000])
def test_budget_is_never_exceeded(budget: int) -> None:
    seen: list[int] = []
    game = image_game(smooth_model(IMAGE), seen=seen)

    estimate = rise(game, [0], seed=0, limits=Limits(0, budget), slice_rows=50)

    assert sum(seen) - 1 == estimate.evaluations
    assert budget - 1 <= estimate.evaluations <= budget
    assert "budget" == estimate.stop_reason
    assert max(seen) <= 50


def test_budget_below_the_least_is_refused() -> None:
    game = image_game(smooth_model(IMAGE))

    with pytest.raises(BudgetTooSmall, match=f"at least {LEAST}"):
        rise(game, [0], seed=0, limits=Limits(0, LEAST - 1), slice_rows=64)
    with pytest.raises(BudgetTooSmall, match="at least 9 "):
        occlusion(game, [0], limits=Limits(0, 8), slice_rows=64, window=2, stride=2)


def test_rise_refuses_columns() -> None:
    game = game_of(product_of_all, row=[1, 2, 3], background=[[0, 0, 0]])

    with pytest.raises(MethodDoesNotFit, match="columns or tokens") as refusal:
        rise(game, [0], seed=0, limits=LIMITLESS, slice_rows=64)

    assert "occlusion" in refusal.value.fitting


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 0}, "'window' of method 'occlusion': expected 1 to 6 x 5"),
        ({"window": 6}, "Received 6"),
        ({"window": (1, 2, 3)}, r"Received \(1, 2, 3\)"),
        ({"window": 2, "stride": 3}, "'stride' of method 'occlusion': expected 1 to 2 x 2"),
        ({"baseline": "blur"}, "Received 'blur'"),
        ({"baseline": float("nan")}, "Received nan"),
    ],
)
def test_option_of_occlusion_that_does_not_fit_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionNotUsable, match=said):
        occlusion(image_game(smooth_model(IMAGE)), [0], limits=LIMITLESS, slice_rows=64, **options)


@pytest.mark.parametrize("options", [{"cells": 0}, {"cells": (7, 5)}, {"cells": (3,)}, {"baseline": "sample"}])
def test_option_of_rise_that_does_not_fit_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionNotUsable, match="of method 'rise'"):
        rise(image_game(smooth_model(IMAGE)), [0], seed=0, limits=LIMITLESS, slice_rows=64, **options)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_answer_that_is_not_a_number_is_refused(method: str) -> None:
    def broken_below(rows: Any) -> Any:
        return np.where(rows.min(axis=(1, 2, 3)) >= -0.5, 1.0, np.nan)[:, np.newaxis]

    game = game_of(broken_below, row=np.ones(IMAGE), background=np.full((1, *IMAGE), -1.0), players=pixels())

    with pytest.raises(NotFinite, match="the model's answer"):
        run(method, game)
    with pytest.raises(NotFinite, match="the model's answer"):
        run(method, replace(game, row=np.full(IMAGE, np.nan, dtype=np.float32)))


def run(method: str, game: Game) -> Estimate:
    if method == "occlusion":
        return occlusion(game, [0], limits=LIMITLESS, slice_rows=64)
    return rise(game, [0], seed=0, limits=LIMITLESS, slice_rows=64)


def map_of_one_pixel(game: Game, cells: Any) -> Any:
    """What RISE estimates for a model that is linear in one pixel: 2 f' (x - b) cov(M(read), M(p)).

    Along an axis the covariance of two mask values, times 4, is the mean over the shifts of the sum over grid points
    of both weights.
    """
    per_axis = [cells, cells] if isinstance(cells, int) else cells
    factors = []
    for axis, n_cells in enumerate(per_axis):
        length = IMAGE[axis]
        size = -(-length // n_cells)
        hats = [
            np.maximum(1 - np.abs((np.arange(length) + shift)[:, np.newaxis] / size - np.arange(length + 2)), 0)
            for shift in range(size)
        ]
        factors.append(np.mean([hat @ hat[READ[axis]] for hat in hats], axis=0))
    gain = (game.value - game.evaluate(game.background.rows.mean(axis=0, keepdims=True)))[0, 0]
    return (2 * gain / 4 * np.outer(*factors)).reshape(-1)


def one_pixel(rows: Any) -> Any:
    return 3 * rows[:, *READ, [1]].astype(np.float64)


def product_of_all(rows: Any) -> Any:
    return rows.astype(np.float64).prod(axis=1, keepdims=True)


def curved_sum(rows: Any) -> Any:
    return rows.astype(np.float64).sum(axis=1) ** 2


def smooth_model(row_shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """A network of two outputs in which everything interacts; each row's sums are its own."""
    rng = np.random.default_rng(0)
    inner, outer = rng.normal(size=(int(np.prod(row_shape)), 8)) / 4, rng.normal(size=(8, 2))

    def model(rows: Any) -> Any:
        hidden = np.tanh(np.einsum("re,eh->rh", rows.reshape(len(rows), -1).astype(np.float64), inner))
        return np.einsum("rh,ho->ro", hidden, outer)

    return model


def pixels() -> Any:
    """One player per pixel, its channels together."""
    return np.repeat(np.arange(30), IMAGE[2]).reshape(IMAGE)


def quadrants() -> Any:
    """Four segments of unequal size, all channels together."""
    rows, columns = np.indices(IMAGE[:2])
    return np.repeat((2 * (rows >= 2) + (columns >= 3))[..., np.newaxis], IMAGE[2], axis=2)


def image_game(
    model: Callable[[Any], Any], *, background: Any = None, players: Any = None, seen: list[int] | None = None
) -> Game:
    rng = np.random.default_rng(1)
    row = rng.normal(size=IMAGE)
    background = rng.normal(size=(3, *IMAGE)) if background is None else background
    game = game_of(model, row=row, background=background, players=pixels() if players is None else players)
    if seen is None:
        return game

    def counting(rows: Any) -> Any:
        assert np.float32 == rows.dtype
        seen.append(len(rows))
        return model(rows)

    return replace(game, evaluate=counting)


def game_of(
    model: Callable[[Any], Any], *, row: Any, background: Any, players: Any = None, weights: Any = None
) -> Game:
    row = np.asarray(row, dtype=np.float32)
    shares = None if weights is None else np.asarray(weights, dtype=np.float64) / np.sum(weights)
    reference = Background.of(np.asarray(background, dtype=np.float32), model, shares)
    return Game(model, row, reference, np.arange(len(row)) if players is None else players)


def peak(estimate: Estimate) -> tuple[int, ...]:
    place = np.unravel_index(estimate.attributions[:, 0].argmax(), IMAGE[:2])
    return tuple(int(i) for i in place)


def test_the_model_is_given_rows_of_the_type_of_the_explained_row() -> None:
    """An engine refuses float64: a mask with parts of a cell once made rows of it."""
    received = set()

    def evaluate(rows: Rows) -> NDArray[np.floating[Any]]:
        received.add(rows.dtype)
        return rows.reshape(len(rows), -1)[:, :1]

    row = np.ones((8, 8, 1), np.float32)
    game = Game(evaluate, row, Background.of(np.zeros((3, 8, 8, 1), np.float32), evaluate), pixel_players(row.shape))

    rise(game, [0], seed=0, limits=Limits(0.5, budget=200), slice_rows=64, cells=[4, 4])
    occlusion(game, [0], limits=Limits(0.5), slice_rows=64, window=2, stride=1, baseline=0)

    assert {np.dtype(np.float32)} == received
