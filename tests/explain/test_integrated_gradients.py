"""Integrated gradients: hand values, completeness, baselines, and when it stops."""

from typing import Any

import numpy as np
import pytest

from explain.errors import BudgetTooSmall, GradientNotFinite, MethodDoesNotFit
from explain.game import Background, Game, Rows
from explain.integrated import gauss_legendre, integrated_gradients, named_baseline
from explain.limits import Limits
from explain.players import feature_players


class Formula:
    """An output and its gradient, both in float64."""

    def __init__(self, output: Any, slopes: Any, slice_rows: int = 20) -> None:
        self._output, self._slopes, self.slice_rows = output, slopes, slice_rows
        self.calls = 0

    def evaluate(self, rows: Rows) -> Any:
        return self._output(rows.astype(np.float64))[:, np.newaxis]

    def __call__(self, rows: Rows, _targets: Any) -> Any:
        self.calls += 1
        return self._slopes(rows.astype(np.float64))


def two_relus(rows: Any) -> Any:
    return np.maximum(np.maximum(rows[:, 0], 0) - 1 - np.maximum(rows[:, 1], 0), 0)


def two_relus_slopes(rows: Any) -> Any:
    active = two_relus(rows) > 0
    return np.stack([active * (rows[:, 0] > 0), -1.0 * active * (rows[:, 1] > 0)], axis=1)


WAVE = Formula(lambda rows: np.sin(rows.sum(axis=1)), lambda rows: np.cos(rows.sum(axis=1))[:, np.newaxis] + 0 * rows)


def game_of(formula: Formula, row: list[float], background: Any = None) -> Game:
    rows = np.zeros((1, len(row)), np.float32) if background is None else np.asarray(background, np.float32)
    return Game(
        formula.evaluate, np.array(row, np.float32), Background.of(rows, formula.evaluate), feature_players(len(row))
    )


def test_relu_of_two_relus_has_the_published_attributions() -> None:
    """Sundararajan et al. 2017, figure 7: f(x1, x2) = ReLU(ReLU(x1) - 1 - ReLU(x2)) at (3, 1)."""
    formula = Formula(two_relus, two_relus_slopes)
    game = game_of(formula, [3.0, 1.0])

    estimate = integrated_gradients(game, formula, [0], baseline=np.zeros(2, np.float32), limits=Limits(0.01))

    np.testing.assert_allclose(estimate.attributions[:, 0], [1.5, -0.5], atol=0.05)
    assert "tolerance" == estimate.stop_reason


def test_base_value_is_the_output_at_the_baseline_and_attributions_add_up_to_the_rest() -> None:
    game = game_of(WAVE, [0.7, 0.4], [[0.1, 0.3], [2.5, -0.9]])
    baseline = named_baseline(game.background, "mean")

    estimate = integrated_gradients(game, WAVE, [0], baseline=baseline, limits=Limits(1e-6))

    gain = np.sin(1.1) - np.sin(1.0)
    np.testing.assert_allclose(baseline, [1.3, -0.3], rtol=1e-6)
    np.testing.assert_allclose(estimate.base_values, [np.sin(1.0)], rtol=1e-6)
    assert abs(game.background.base_values[0] - np.sin(1.0)) > 0.1
    np.testing.assert_allclose(estimate.attributions[:, 0], gain * np.array([-6, 7]), rtol=1e-4)
    np.testing.assert_allclose(estimate.efficiency_residuals, [0], atol=1e-6)


def test_a_smooth_network_needs_one_rule_and_nothing_is_sampled() -> None:
    game = game_of(WAVE, [2.0, 1.0])

    estimate = integrated_gradients(game, WAVE, [0], baseline=np.zeros(2, np.float32), limits=Limits(1e-5))

    assert (16, "tolerance") == (estimate.evaluations, estimate.stop_reason)
    assert np.isnan(estimate.standard_errors).all()
    assert np.isnan(estimate.half_widths).all()
    assert ("integrated-gradients", "aumann-shapley") == (estimate.method, estimate.estimand)


def test_nodes_double_until_the_residual_is_within_the_tolerance() -> None:
    def step_up(rows: Any) -> Any:
        return np.maximum(rows[:, 0] - 0.3711, 0)

    formula = Formula(step_up, lambda rows: 1.0 * (rows > 0.3711))
    game = game_of(formula, [1.0])

    loose, tight = (
        integrated_gradients(game, formula, [0], baseline=np.zeros(1, np.float32), limits=Limits(tolerance))
        for tolerance in (0.1, 1e-3)
    )

    assert loose.evaluations < tight.evaluations
    assert abs(tight.efficiency_residuals[0]) <= 1e-3 * tight.scales[0]
    # 16 + 32 + 64 + ...: every rule that was tried is counted
    assert 0 == tight.evaluations % 16


def test_a_budget_and_a_deadline_end_it_with_the_residual_that_is_left() -> None:
    # The gradient is not that of the output, so that no number of nodes helps.
    formula = Formula(lambda rows: rows[:, 0], lambda rows: 0 * rows)
    game = game_of(formula, [1.0])

    budget = integrated_gradients(game, formula, [0], baseline=np.zeros(1, np.float32), limits=Limits(0.01, 60))
    deadline = integrated_gradients(
        game, formula, [0], baseline=np.zeros(1, np.float32), limits=Limits(0.01, may_go_on=lambda _: False)
    )

    assert ("budget", 48) == (budget.stop_reason, budget.evaluations)
    assert ("deadline", 16) == (deadline.stop_reason, deadline.evaluations)
    np.testing.assert_allclose(budget.efficiency_residuals, [-1.0])


def test_replay_of_the_evaluations_gives_the_same_bits() -> None:
    formula = Formula(two_relus, two_relus_slopes)
    game = game_of(formula, [2.9, 1.1])
    baseline = np.zeros(2, np.float32)
    recorded = integrated_gradients(
        game, formula, [0], baseline=baseline, limits=Limits(0, may_go_on=lambda rows: rows < 300)
    )

    replayed = integrated_gradients(
        game, formula, [0], baseline=baseline, limits=Limits(1.0, None, lambda _: False, recorded.evaluations)
    )

    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)
    assert recorded.evaluations == replayed.evaluations


def test_budget_below_the_first_rule_is_refused() -> None:
    with pytest.raises(BudgetTooSmall, match="at least 32 evaluations here; received 31"):
        integrated_gradients(
            game_of(WAVE, [1.0, 1.0]), WAVE, [0, 0], baseline=np.zeros(2, np.float32), limits=Limits(0.1, 31)
        )


def test_unknown_baseline_is_refused_with_those_that_exist() -> None:
    with pytest.raises(MethodDoesNotFit, match="baseline 'median' is none of mean, zero"):
        named_baseline(game_of(WAVE, [1.0]).background, "median")


@pytest.mark.parametrize("n_nodes", [16, 32, 64, 128, 512])
def test_quadrature_is_exact_for_polynomials(n_nodes: int) -> None:
    positions, weights = gauss_legendre(n_nodes)

    assert (n_nodes,) == positions.shape == weights.shape
    np.testing.assert_allclose([weights @ positions**power for power in (0, 1, 31)], [1, 1 / 2, 1 / 32], rtol=1e-12)


def test_gradient_that_is_not_finite_is_an_error_that_names_the_output_and_the_cure() -> None:
    root = Formula(lambda rows: np.sqrt(np.abs(rows[:, 0])), lambda rows: np.where(rows > 0.5, np.nan, 1.0))

    with pytest.raises(GradientNotFinite, match=r"gradient of output 0 is not finite for 1 of 1 inputs.*exact, kernel"):
        integrated_gradients(game_of(root, [1.0]), root, [0], baseline=np.zeros(1, np.float32), limits=Limits(0.1))
