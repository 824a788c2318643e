"""Expected gradients: agreement with shap, calibrated errors, reproducibility, and when it stops."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from explain.attribution import Estimate, student_t_quantile
from explain.errors import BudgetTooSmall
from explain.game import Background, Game, Rows
from explain.gradients import KerasGradient, expected_gradients, refine
from explain.limits import Limits
from explain.players import feature_players, pixel_players
from models.artifact import Artifact

N_FEATURES, N_BACKGROUND, REPLICATES = 4, 6, 8
ONE_ROUND = REPLICATES * N_BACKGROUND


class ReluNetwork:
    """A float64 network of four features with kinks, and its gradient; it counts the path points it is given."""

    slice_rows = 20

    def __init__(self, seed: int = 0, n_targets: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self._inner, self._bias = rng.normal(size=(N_FEATURES, 12)), rng.normal(size=12)
        self._outer = rng.normal(size=(12, n_targets))
        self.points: list[tuple[int, bytes]] = []

    def evaluate(self, rows: Any) -> Any:
        return np.maximum(rows.astype(np.float64) @ self._inner + self._bias, 0) @ self._outer

    def gradient(self, rows: Any, target: int = 0) -> Any:
        active = rows.astype(np.float64) @ self._inner + self._bias > 0
        return (active * self._outer[:, target]) @ self._inner.T

    def __call__(self, rows: Rows, targets: Any) -> Any:
        assert N_FEATURES == rows.shape[1]
        assert self.slice_rows >= len(rows)
        self.points.extend((int(targets[0]), row.tobytes()) for row in rows)
        return self.gradient(rows, targets[0])


@pytest.fixture
def network() -> ReluNetwork:
    return ReluNetwork()


@pytest.fixture
def game(network: ReluNetwork) -> Game:
    return game_on(network)


@pytest.fixture(scope="module")
def digits_gradient(digits_artifact: Artifact) -> tuple[Any, KerasGradient]:
    from models.outputs import target_model

    model = target_model(digits_artifact.load_keras(), digits_artifact.signature, "probability")
    return model, KerasGradient(model, 256)


def test_agrees_with_shap_within_both_errors(
    digits_artifact: Artifact, digits_gradient: tuple[Any, KerasGradient]
) -> None:
    import keras
    import shap

    model, gradient = digits_gradient
    background, weights = digits_artifact.background
    rows = background[[0, 5, 9]] * np.float32(0.9)
    games = digits_games(model, rows, background, weights)
    # shap hands its model a list of inputs.
    explainer = shap.GradientExplainer(keras.Model([model.input], model.output), background, batch_size=250)
    state = np.random.get_state()

    runs = np.array(
        [explainer.shap_values(rows, nsamples=2000, ranked_outputs=1, rseed=seed)[0] for seed in range(4)]
    ).reshape(4, len(rows), 64)

    np.random.set_state(state)  # shap seeds NumPy's global generator
    for game, published in zip(games, runs.swapaxes(0, 1), strict=True):
        estimate = expected_gradients(
            game, gradient, [int(game.value.argmax())], seed=0, limits=Limits(tolerance=0, budget=6400)
        )
        difference = estimate.attributions[:, 0] - published.mean(axis=0)
        expected_variance = published.var(axis=0, ddof=1) / len(published) + estimate.standard_errors[:, 0] ** 2
        assert np.linalg.norm(difference) <= 1.7 * np.sqrt(expected_variance.sum())
        # The errors leave room for no more than a small part of the attributions.
        assert np.sqrt(expected_variance.sum()) <= 0.1 * np.linalg.norm(estimate.attributions)


def test_attributions_of_a_trained_network_add_up_within_their_error(
    digits_artifact: Artifact, digits_gradient: tuple[Any, KerasGradient]
) -> None:
    model, gradient = digits_gradient
    background, weights = digits_artifact.background
    (game,) = digits_games(model, background[:1] * np.float32(0.8), background, weights)

    estimate = expected_gradients(game, gradient, range(10), seed=0, limits=Limits(tolerance=0, budget=64_000))

    assert (64, 10) == estimate.attributions.shape
    assert (np.abs(estimate.efficiency_residuals) <= 0.02 * estimate.scales).all()


def test_compiled_gradient_agrees_with_finite_differences(diabetes_artifact: Artifact) -> None:
    from models.outputs import target_model

    model = target_model(diabetes_artifact.load_keras(), diabetes_artifact.signature, "value")
    rows = diabetes_artifact.background[0][:16]
    steps = np.float32(1e-3) * rows.std(axis=0)

    slopes = KerasGradient(model, 16)(rows, np.zeros(16, dtype=np.int32))

    for feature, step in enumerate(steps):
        shift = np.zeros(10, dtype=np.float32)
        shift[feature] = step
        rise = np.asarray(model(rows + shift), dtype=np.float64) - np.asarray(model(rows - shift), dtype=np.float64)
        run = (rows + shift).astype(np.float64)[:, feature] - (rows - shift)[:, feature]
        # The median: a few rows may stand on a kink.
        assert (
            np.median(np.abs(slopes[:, feature] - rise[:, 0] / run)) <= 0.02 * np.abs(slopes[:, feature]).max() + 1e-3
        )


def test_linear_model_is_explained_exactly_and_without_error() -> None:
    slopes = np.array([1.0, -2.0, 0.5, 3.0])

    class Linear:
        slice_rows = 7

        def __call__(self, rows: Rows, _targets: Any) -> Any:
            return np.tile(slopes, (len(rows), 1))

    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(N_BACKGROUND))
    rows = rng.normal(size=(N_BACKGROUND, N_FEATURES)).astype(np.float32)

    def evaluate(rows: Any) -> Any:
        return rows.astype(np.float64) @ slopes[:, np.newaxis]

    game = Game(
        evaluate, np.ones(N_FEATURES, np.float32), Background.of(rows, evaluate, weights), feature_players(N_FEATURES)
    )

    estimate = expected_gradients(game, Linear(), [0], seed=0, limits=Limits(tolerance=1e-4))

    np.testing.assert_allclose(estimate.attributions[:, 0], slopes * (1 - weights @ rows), rtol=1e-6)
    np.testing.assert_allclose(estimate.standard_errors, 0, atol=1e-14)
    assert "tolerance" == estimate.stop_reason
    assert ONE_ROUND == estimate.evaluations


@pytest.mark.parametrize(
    "budget",
    [
        pytest.param(24, id="3 of 6 background rows a replicate"),
        pytest.param(ONE_ROUND, id="one position a background row"),
        pytest.param(4 * ONE_ROUND, id="refined twice"),
    ],
)
def test_intervals_cover_the_true_attributions_as_often_as_they_say(budget: int) -> None:
    network = ReluNetwork(seed=1)
    game = game_on(network)
    true = quadrature(network, game)

    estimates = [estimate_of(game, network, budget=budget, seed=seed) for seed in range(150)]

    errors = np.array([estimate.attributions[:, 0] - true for estimate in estimates])
    half_widths = np.array([estimate.half_widths[:, 0] for estimate in estimates])
    claimed = np.array([estimate.standard_errors[:, 0] for estimate in estimates])
    assert 0.90 <= (np.abs(errors) <= half_widths).mean() <= 0.99
    # Neither too bold nor too shy: the errors that were made are of the size that was claimed.
    assert 0.85 <= np.sqrt((errors**2).mean() / (claimed**2).mean()) <= 1.15


def test_refining_beats_plain_sampling() -> None:
    """Four times the positions reduce the error more than twofold, as stratification must."""
    network = ReluNetwork(seed=1)
    game = game_on(network)

    coarse, fine = (
        np.mean([estimate_of(game, network, budget=budget, seed=seed).standard_errors for seed in range(20)])
        for budget in (ONE_ROUND, 4 * ONE_ROUND)
    )

    assert fine < coarse / 3


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(game: Game, network: ReluNetwork) -> None:
    first = estimate_of(game, network, budget=500, seed=3)
    again = estimate_of(game, network, budget=500, seed=3)
    other = estimate_of(game, network, budget=500, seed=4)

    np.testing.assert_array_equal(first.attributions, again.attributions)
    np.testing.assert_array_equal(first.standard_errors, again.standard_errors)
    assert (first.attributions != other.attributions).all()


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(0, None, may_go_on=lambda rows: rows < 300), id="deadline"),
        pytest.param(Limits(0, 700), id="budget"),
        pytest.param(Limits(0, ONE_ROUND - 1), id="budget that samples the background"),
        pytest.param(Limits(0.05, None), id="tolerance"),
    ],
)
def test_replay_of_the_evaluations_gives_the_same_bits_and_the_same_reason(
    game: Game, network: ReluNetwork, limits: Limits
) -> None:
    recorded = expected_gradients(game, network, [0], seed=5, limits=limits)

    replayed = expected_gradients(
        game,
        network,
        [0],
        seed=5,
        limits=replace(limits, may_go_on=lambda _: False, evaluations=recorded.evaluations),
    )

    assert (recorded.evaluations, recorded.stop_reason) == (replayed.evaluations, replayed.stop_reason)
    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)
    np.testing.assert_array_equal(recorded.standard_errors, replayed.standard_errors)


def test_replay_goes_on_where_its_tolerance_is_reached_before(game: Game, network: ReluNetwork) -> None:
    recorded = estimate_of(game, network, budget=4 * ONE_ROUND, seed=5)

    replayed = expected_gradients(
        game, network, [0], seed=5, limits=Limits(1.0, None, lambda _: False, recorded.evaluations)
    )

    assert 4 * ONE_ROUND == replayed.evaluations
    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)


def test_explanation_of_a_row_does_not_depend_on_other_targets_being_asked() -> None:
    network = ReluNetwork(n_targets=3)
    game = game_on(network)

    alone = expected_gradients(game, network, [2], seed=0, limits=Limits(0, ONE_ROUND))
    together = expected_gradients(game, network, [0, 2], seed=0, limits=Limits(0, 2 * ONE_ROUND))

    np.testing.assert_array_equal(alone.attributions[:, 0], together.attributions[:, 1])
    np.testing.assert_array_equal(together.values, game.value[[0, 2]])
    np.testing.assert_array_equal(together.base_values, game.background.base_values[[0, 2]])


def test_stops_at_the_first_round_within_the_tolerance(game: Game, network: ReluNetwork) -> None:
    asked: list[int] = []

    estimate = expected_gradients(game, network, [0], seed=0, limits=Limits(0.01, None, may_go_on=recorder(asked)))

    reached = max(estimate.half_widths.max(), abs(estimate.efficiency_residuals[0]))
    assert "tolerance" == estimate.stop_reason
    assert reached <= 0.01 * estimate.scales[0]
    before = estimate_of(game, network, budget=estimate.evaluations // 2, seed=0)
    assert max(before.half_widths.max(), abs(before.efficiency_residuals[0])) > 0.01 * before.scales[0]


def test_stops_at_the_budget(game: Game, network: ReluNetwork) -> None:
    estimate = estimate_of(game, network, budget=4 * ONE_ROUND - 1, seed=0)

    assert "budget" == estimate.stop_reason
    assert 2 * ONE_ROUND == estimate.evaluations


def test_stops_at_the_deadline_after_asking_before_each_round(game: Game, network: ReluNetwork) -> None:
    asked: list[int] = []

    estimate = expected_gradients(
        game, network, [0], seed=0, limits=Limits(0, None, may_go_on=recorder(asked, until=3))
    )

    assert "deadline" == estimate.stop_reason
    # Two background rows fill a slice; two more, the last two, then all of them twice and four times.
    assert [16, 16, ONE_ROUND] == asked
    assert ONE_ROUND == estimate.evaluations


@pytest.mark.parametrize("n_targets", [1, 3])
@pytest.mark.parametrize("budget", [24, 25, 40, 47, 48, 95, 96, 143, 144, 500, 1000])
def test_budget_is_never_exceeded(budget: int, n_targets: int) -> None:
    network = ReluNetwork(n_targets=3)
    game = game_on(network)

    estimate = expected_gradients(game, network, range(n_targets), seed=0, limits=Limits(0, budget))

    # Slices are filled up with points that they hold already.
    assert estimate.evaluations == len(set(network.points))
    assert budget / 3 < estimate.evaluations <= budget
    assert "budget" == estimate.stop_reason


@pytest.mark.parametrize(("n_targets", "budget"), [(1, 7), (1, 0), (2, 15), (3, 23)])
def test_budget_below_one_position_per_replicate_and_target_is_refused(n_targets: int, budget: int) -> None:
    network = ReluNetwork(n_targets=3)

    with pytest.raises(BudgetTooSmall) as refusal:
        expected_gradients(game_on(network), network, range(n_targets), seed=0, limits=Limits(0, budget))

    assert REPLICATES * n_targets == refusal.value.needed
    assert f"received {budget}" in str(refusal.value)


def test_least_budget_is_enough(game: Game, network: ReluNetwork) -> None:
    estimate = estimate_of(game, network, budget=REPLICATES, seed=0)

    assert REPLICATES == estimate.evaluations


@pytest.mark.parametrize("n_references", [1, 5])
def test_refining_keeps_one_position_in_each_stratum(n_references: int) -> None:
    rng = np.random.default_rng(0)
    positions = rng.random((REPLICATES, n_references, 1))

    for _ in range(6):
        positions = np.concatenate([positions, refine(positions, rng)], axis=-1)

        n_strata = positions.shape[-1]
        strata = np.sort(np.floor(positions * n_strata), axis=-1)
        np.testing.assert_array_equal(strata, np.broadcast_to(np.arange(n_strata), positions.shape))


def test_residual_is_reported_and_never_spread_over_the_attributions(game: Game, network: ReluNetwork) -> None:
    estimate = estimate_of(game, network, budget=ONE_ROUND, seed=0)

    residual = estimate.attributions[:, 0].sum() - (estimate.values[0] - estimate.base_values[0])
    np.testing.assert_allclose(estimate.efficiency_residuals, [residual], rtol=1e-12)
    assert abs(residual) > 1e-4 * estimate.scales[0]
    np.testing.assert_allclose(estimate.half_widths, student_t_quantile(7) * estimate.standard_errors)


def test_half_widths_use_students_t_with_seven_degrees_of_freedom() -> None:
    quantile = student_t_quantile(7)

    assert pytest.approx(2.36462, abs=1e-5) == quantile


def test_background_row_of_no_weight_counts_for_nothing(network: ReluNetwork) -> None:
    rows, weights = reference_rows()
    weightless = np.append(weights, 0.0)
    far = np.vstack([rows, np.full((1, N_FEATURES), 100, np.float32)])
    row = np.full(N_FEATURES, 0.7, np.float32)
    game = Game(network.evaluate, row, Background.of(far, network.evaluate, weightless), feature_players(N_FEATURES))

    estimate = estimate_of(game, network, budget=20_000, seed=0)

    true = quadrature(network, game_on(network))
    np.testing.assert_allclose(estimate.attributions[:, 0], true, atol=0.01 * estimate.scales[0])


def reference_rows() -> tuple[Any, Any]:
    rng = np.random.default_rng(7)
    return rng.normal(size=(N_BACKGROUND, N_FEATURES)).astype(np.float32), rng.dirichlet(np.full(N_BACKGROUND, 5.0))


def game_on(network: ReluNetwork) -> Game:
    rows, weights = reference_rows()
    row = np.full(N_FEATURES, 0.7, np.float32)
    return Game(network.evaluate, row, Background.of(rows, network.evaluate, weights), feature_players(N_FEATURES))


def digits_games(model: Any, rows: Any, background: Any, weights: Any) -> list[Game]:
    from models.training import predict_raw

    def evaluate(rows: Any) -> Any:
        return predict_raw(model, rows)

    reference = Background.of(background, evaluate, weights)
    return [Game(evaluate, row, reference, pixel_players(row.shape)) for row in rows]


def estimate_of(game: Game, network: ReluNetwork, *, budget: int, seed: int) -> Estimate:
    return expected_gradients(game, network, [0], seed=seed, limits=Limits(0, budget))


def quadrature(network: ReluNetwork, game: Game) -> Any:
    """The integral itself, by the midpoint rule on 20,000 positions for each background row."""
    positions = (np.arange(20_000) + 0.5)[:, np.newaxis] / 20_000
    attributions = np.zeros(N_FEATURES)
    for weight, reference in zip(game.background.weights, game.background.rows.astype(np.float64), strict=True):
        points = reference + positions * (game.row - reference)
        attributions += weight * (game.row - reference) * network.gradient(points).mean(axis=0)
    return attributions


def recorder(asked: list[int], *, until: int = 1000) -> Callable[[int], bool]:
    """Says yes until it has been asked so many times."""

    def may_go_on(rows: int) -> bool:
        asked.append(rows)
        return len(asked) < until

    return may_go_on
