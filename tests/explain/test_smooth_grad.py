"""SmoothGrad: known means, calibrated errors, reproducibility, and when it stops."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall, GradientNotFinite
from explain.game import Background, Game, Rows
from explain.limits import Limits
from explain.players import feature_players, pixel_players
from explain.smoothing import element_spreads, smooth_grad


class Cubic:
    """f(x) = sum of c_i x_i^3 in two outputs, the second with the opposite sign. Its smoothed slope is
    3 c_i (x_i^2 + deviation_i^2)."""

    def __init__(self, factors: Any, slice_rows: int = 32) -> None:
        self.factors, self.slice_rows = np.asarray(factors, np.float64), slice_rows
        self.points: list[bytes] = []

    def evaluate(self, rows: Rows) -> Any:
        sums = np.einsum("ri,i->r", rows.reshape(len(rows), -1).astype(np.float64) ** 3, self.factors)
        return np.stack([sums, -sums], axis=1)

    def __call__(self, rows: Rows, targets: Any) -> Any:
        assert self.slice_rows >= len(rows)
        self.points += [row.tobytes() for row in rows]
        slopes = 3 * self.factors * rows.reshape(len(rows), -1).astype(np.float64) ** 2
        return (slopes * np.where(targets == 0, 1, -1)[:, np.newaxis]).reshape(rows.shape)


FACTORS = np.array([1.0, -2.0, 0.5])
ROW = np.array([1.0, 0.5, -1.5], np.float32)


def game_of(network: Cubic, row: Any = ROW) -> Game:
    rng = np.random.default_rng(5)
    rows = (rng.normal(size=(40, 3)) * [1, 2, 0]).astype(np.float32)  # the last feature never varies
    return Game(network.evaluate, row, Background.of(rows, network.evaluate), feature_players(3))


def run(network: Cubic, targets: Sequence[int] = (0,), *, seed: int = 0, **limits: Any) -> Estimate:
    given = {"tolerance": 0.0, **limits}
    return smooth_grad(game_of(network), network, targets, seed=seed, limits=Limits(**given), noise=0.5)


def smoothed(game: Game, noise: float) -> Any:
    return 3 * FACTORS * (game.row.astype(np.float64) ** 2 + (noise * element_spreads(game.background)) ** 2)


def test_converges_to_the_mean_slope_under_noise_in_proportion_to_each_feature_s_spread() -> None:
    network = Cubic(FACTORS)

    estimate = run(network, tolerance=0.01)

    true = smoothed(game_of(network), 0.5)
    assert "tolerance" == estimate.stop_reason
    assert (estimate.half_widths <= 0.01 * np.abs(estimate.attributions).max()).all()
    np.testing.assert_allclose(estimate.attributions[:, 0], true, atol=0.02 * np.abs(true).max())


def test_a_feature_that_never_varies_gets_no_noise_and_no_error() -> None:
    estimate = run(Cubic(FACTORS), budget=320)

    assert pytest.approx(3 * 0.5 * 1.5**2) == estimate.attributions[2, 0]
    np.testing.assert_allclose(estimate.standard_errors[2], 0, atol=1e-12)
    assert (estimate.standard_errors[:2] > 0).all()


def test_intervals_cover_the_true_slopes_as_often_as_they_say() -> None:
    network = Cubic(FACTORS)
    true = smoothed(game_of(network), 0.5)[:2]

    estimates = [run(network, seed=seed, budget=512) for seed in range(300)]

    errors = np.array([estimate.attributions[:2, 0] - true for estimate in estimates])
    half_widths = np.array([estimate.half_widths[:2, 0] for estimate in estimates])
    claimed = np.array([estimate.standard_errors[:2, 0] for estimate in estimates])
    assert 0.92 <= (np.abs(errors) <= half_widths).mean() <= 0.98
    assert 0.9 <= np.sqrt((errors**2).mean() / (claimed**2).mean()) <= 1.1


def test_says_that_it_is_saliency() -> None:
    estimate = run(Cubic(FACTORS), budget=64)

    assert ("smooth-grad", "saliency") == (estimate.method, estimate.estimand)
    np.testing.assert_array_equal(np.abs(estimate.attributions).max(axis=0), estimate.scales)


@pytest.mark.parametrize("slice_rows", [8, 20, 32, 256])
def test_size_of_slices_does_not_change_the_noise(slice_rows: int) -> None:
    estimate = run(Cubic(FACTORS, slice_rows), budget=1024)

    np.testing.assert_allclose(estimate.attributions, run(Cubic(FACTORS), budget=1024).attributions, rtol=1e-12)


def test_a_longer_run_begins_with_a_shorter_one_and_counts_its_points() -> None:
    short, long = Cubic(FACTORS), Cubic(FACTORS)

    estimates = [run(short, budget=128), run(long, budget=512)]

    assert [128, 512] == [estimate.evaluations for estimate in estimates]
    assert [128, 512] == [len(set(network.points)) for network in (short, long)]
    assert set(short.points) < set(long.points)


def test_same_seed_gives_the_same_bits_whatever_other_targets_are_asked() -> None:
    alone = run(Cubic(FACTORS), [1], budget=256)
    together = run(Cubic(FACTORS), [0, 1], budget=512)
    other = run(Cubic(FACTORS), [1], seed=1, budget=256)

    np.testing.assert_array_equal(alone.attributions[:, 0], together.attributions[:, 1])
    assert (alone.attributions[:2] != other.attributions[:2]).all()


def test_replay_of_the_evaluations_gives_the_same_bits() -> None:
    recorded = run(Cubic(FACTORS), may_go_on=lambda rows: rows < 200)

    replayed = run(Cubic(FACTORS), tolerance=1.0, may_go_on=lambda _: False, evaluations=recorded.evaluations)

    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)
    assert ("deadline", recorded.evaluations) == (recorded.stop_reason, replayed.evaluations)


def test_no_noise_gives_the_plain_gradient() -> None:
    network = Cubic(FACTORS)

    estimate = smooth_grad(game_of(network), network, [0], seed=0, limits=Limits(0.01), noise=0)

    np.testing.assert_allclose(estimate.attributions[:, 0], 3 * FACTORS * ROW.astype(np.float64) ** 2)
    assert "tolerance" == estimate.stop_reason


def test_channels_of_a_pixel_are_summed() -> None:
    network = Cubic(np.arange(8.0))
    rows = np.random.default_rng(0).normal(size=(5, 2, 2, 2)).astype(np.float32)
    game = Game(network.evaluate, rows[0], Background.of(rows, network.evaluate), pixel_players((2, 2, 2)))

    estimate = smooth_grad(game, network, [0], seed=0, limits=Limits(0.01), noise=0)

    slopes = 3 * np.arange(8.0).reshape(2, 2, 2) * rows[0].astype(np.float64) ** 2
    np.testing.assert_allclose(estimate.attributions[:, 0], slopes.sum(axis=-1).reshape(-1))


def test_budget_below_one_pair_per_replicate_and_target_is_refused() -> None:
    with pytest.raises(BudgetTooSmall, match="at least 32 evaluations here; received 31"):
        run(Cubic(FACTORS), [0, 1], budget=31)


def test_gradient_that_is_not_finite_is_an_error() -> None:
    network = Cubic([1.0, np.inf, 1.0])

    with pytest.raises(GradientNotFinite, match="not finite for 1 of 3 inputs"):
        run(network, budget=64)
