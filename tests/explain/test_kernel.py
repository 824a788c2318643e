"""Regression on sampled coalitions: known values, calibrated errors, the axioms, reproducibility, and when it stops."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall
from explain.exact import exact
from explain.game import Background, Evaluate, Game
from explain.limits import Limits
from explain.players import feature_players
from explain.regression import LEAST_PAIRS, PAIRS_FOR_ERRORS, kernel
from explain.sampling import PairStream, numbered_coalitions
from models.artifact import Artifact

SLICE_ROWS = 8
"""Small, so that rounds do not grow to fill a slice."""


@pytest.mark.parametrize("n_players", [1, 2, 3, 4, 5, 6, 7, 9, 10])
def test_equals_exact_once_every_coalition_was_seen(n_players: int) -> None:
    game = random_game(n_players)

    estimate = kernel_of(game, tolerance=1e-15)

    expected = exact(game, slice_rows=64)
    assert "exact" == estimate.stop_reason
    assert (np.abs(estimate.attributions - expected.attributions) <= 1e-9 * game.scales).all()
    np.testing.assert_array_equal(estimate.standard_errors, np.zeros((n_players, 2)))
    np.testing.assert_array_equal(estimate.half_widths, np.zeros((n_players, 2)))
    assert (2**n_players - 2) * len(game.background.rows) == estimate.evaluations


def test_agrees_with_exact_on_a_trained_network_within_its_own_errors(diabetes_artifact: Artifact) -> None:
    from models.training import predict_raw

    model = diabetes_artifact.load_keras()
    rows, weights = diabetes_artifact.background

    def evaluate(rows: Any) -> Any:
        return predict_raw(model, rows)

    game = Game(evaluate, rows[0] + np.float32(0.5), Background.of(rows, evaluate, weights), feature_players(10))
    true = exact(game, slice_rows=4096).attributions

    sampled = [kernel_of(game, pairs=60, seed=seed, slice_rows=4096) for seed in range(10)]
    whole = kernel_of(game, tolerance=1e-15, slice_rows=4096)

    inside = [np.abs(estimate.attributions - true) <= estimate.half_widths for estimate in sampled]
    assert np.mean(inside) >= 0.85
    assert 0 < np.max([estimate.half_widths for estimate in sampled]) <= 0.1 * game.scales[0]
    assert np.abs(whole.attributions - true).max() <= 1e-6 * game.scales[0]


@pytest.mark.parametrize(
    ("game", "pairs"),
    [
        pytest.param("unanimity", 4, id="unanimity games, 4 pairs a player"),
        pytest.param("unanimity", 8, id="unanimity games, 8 pairs a player"),
        pytest.param("network", 4, id="a network, 4 pairs a player"),
        pytest.param("network", 10, id="a network, 10 pairs a player"),
    ],
)
def test_intervals_cover_the_true_values_as_often_as_they_say(game: str, pairs: int) -> None:
    n_players = 12
    if game == "unanimity":
        played, true = unanimity_game(n_players, seed=3)
    else:
        played = random_game(n_players)
        true = exact(played, slice_rows=4096).attributions

    estimates = [kernel_of(played, pairs=pairs * n_players, seed=seed) for seed in range(80)]

    errors = np.array([estimate.attributions - true for estimate in estimates])
    half_widths = np.array([estimate.half_widths for estimate in estimates])
    claimed = np.array([estimate.standard_errors for estimate in estimates])
    assert 0.92 <= (np.abs(errors) <= half_widths).mean() <= 0.98
    # Neither too bold nor too shy, for all together and for each player and output.
    made = np.sqrt((errors**2).mean(axis=0))
    assert pytest.approx(1, abs=0.13) == np.sqrt((claimed**2).mean() / (errors**2).mean())
    np.testing.assert_allclose(np.sqrt((claimed**2).mean(axis=0)) / made, 1, atol=0.35)
    assert (np.abs(errors.mean(axis=0)) <= 4 * made / math.sqrt(len(estimates))).all()


def test_errors_know_that_the_population_is_finite() -> None:
    """With 9 of 10 coalitions seen the error is far below that of as many draws from an endless population."""
    game, true = unanimity_game(10, seed=1)
    n_pairs = 2**9 - 1

    half, most = ([kernel_of(game, pairs=pairs, seed=seed) for seed in range(60)] for pairs in (256, n_pairs - 51))

    made, claimed = (
        [np.sqrt(np.mean(square)) for square in squares]
        for squares in (
            [[(estimate.attributions - true) ** 2 for estimate in run] for run in (half, most)],
            [[estimate.standard_errors**2 for estimate in run] for run in (half, most)],
        )
    )
    assert claimed[1] < 0.5 * claimed[0]
    np.testing.assert_allclose(np.divide(claimed, made), 1, atol=0.15)


def test_errors_are_not_stated_below_four_pairs_a_player() -> None:
    game = random_game(8)

    few, enough = (kernel_of(game, pairs=pairs) for pairs in (31, 32))

    assert np.isnan(few.standard_errors).all()
    assert np.isnan(few.half_widths).all()
    assert np.isfinite(few.attributions).all()
    assert (enough.standard_errors > 0).all()


def test_no_tolerance_ends_a_run_that_states_no_errors() -> None:
    game = random_game(12)

    estimate = kernel_of(game, tolerance=1.0)

    assert "tolerance" == estimate.stop_reason
    assert pairs_of(estimate, game) >= PAIRS_FOR_ERRORS * 12


@pytest.mark.parametrize("pairs", [24, 48, 100, 500])
def test_attributions_add_up_however_few_pairs_were_seen(pairs: int) -> None:
    game = random_game(12)

    estimate = kernel_of(game, pairs=pairs)

    assert (np.abs(estimate.efficiency_residuals) <= 1e-12 * estimate.scales).all()
    np.testing.assert_array_equal(estimate.values, game.value)
    np.testing.assert_array_equal(estimate.base_values, game.background.base_values)


def test_player_that_equals_the_whole_background_gets_nothing_and_costs_nothing() -> None:
    game = random_game(9)
    rows = game.background.rows.copy()
    rows[:, 4] = game.row[4]
    tied = Game(game.evaluate, game.row, Background.of(rows, game.evaluate, game.background.weights), game.players)

    estimate = kernel_of(tied, tolerance=1e-15)

    assert [0.0, 0.0] == estimate.attributions[4].tolist()
    np.testing.assert_allclose(estimate.attributions, exact(tied, slice_rows=64).attributions, atol=1e-10)
    assert (2**8 - 2) * len(rows) == estimate.evaluations


def test_player_that_equals_the_whole_background_has_no_error_where_others_state_none() -> None:
    game = random_game(9)
    row = game.row.copy()
    row[4] = 0
    rows = game.background.rows.copy()
    rows[:, 4] = 0
    tied = Game(game.evaluate, row, Background.of(rows, game.evaluate), game.players)

    estimate = kernel_of(tied, pairs=20)

    assert [4] == np.flatnonzero(np.isfinite(estimate.standard_errors[:, 0])).tolist()
    assert 0.0 == estimate.standard_errors[4, 0]


def test_player_that_the_model_ignores_gets_nothing_within_its_error() -> None:
    game = random_game(12, without=5)

    estimate = kernel_of(game, pairs=400)

    assert (np.abs(estimate.attributions[5]) <= 2 * estimate.half_widths[5]).all()
    assert (np.abs(estimate.attributions).max(axis=0) > 20 * estimate.half_widths[5]).all()


def test_players_that_nothing_tells_apart_differ_by_no_more_than_their_errors() -> None:
    game = random_game(12)

    def symmetric(rows: Any) -> Any:
        swapped = rows.copy()
        swapped[:, [0, 1]] = rows[:, [1, 0]]
        return game.evaluate(rows) + game.evaluate(swapped)

    rows = game.background.rows.copy()
    row = game.row.copy()
    rows[:, 1], row[1] = rows[:, 0], row[0]
    twins = Game(symmetric, row, Background.of(rows, symmetric), game.players)

    estimate = kernel_of(twins, pairs=400)

    difference = np.abs(estimate.attributions[0] - estimate.attributions[1])
    assert (difference <= 2 * (estimate.half_widths[0] + estimate.half_widths[1])).all()
    assert (np.abs(estimate.attributions[0]) > 0.01 * estimate.scales).all()


def test_attributions_of_a_sum_of_models_are_the_sum_of_attributions_within_their_errors() -> None:
    game, other = random_game(12, seed=1), random_game(12, seed=2)

    def combined(rows: Any) -> Any:
        return game.evaluate(rows) - 2 * other.evaluate(rows)

    first, second, together = (
        kernel_of(Game(model, game.row, Background.of(game.background.rows, model), game.players), pairs=200)
        for model in (game.evaluate, other.evaluate, combined)
    )

    difference = np.abs(together.attributions - first.attributions + 2 * second.attributions)
    assert (difference <= 1.5 * (together.half_widths + first.half_widths + 2 * second.half_widths)).all()
    assert difference.max() < 0.05 * together.scales.max()


def test_additive_model_needs_no_more_than_the_least() -> None:
    slopes = np.arange(1.0, 41.0)[:, np.newaxis]
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 40)).astype(np.float32)

    def evaluate(rows: Any) -> Any:
        return rows.astype(np.float64) @ slopes

    game = Game(evaluate, np.ones(40, np.float32), Background.of(rows, evaluate), feature_players(40))

    estimate = kernel_of(game, pairs=LEAST_PAIRS * 40)

    np.testing.assert_allclose(estimate.attributions, (1 - rows.mean(axis=0))[:, np.newaxis] * slopes, atol=1e-4)


@pytest.mark.parametrize("n_players", [6, 7, 11, 24, 40])
def test_least_number_of_pairs_gives_a_sane_answer_for_every_seed(n_players: int) -> None:
    """Below about as many samples a regression without care explodes to many times the scale."""
    game = random_game(n_players)

    worst = max(
        (np.abs(kernel_of(game, pairs=LEAST_PAIRS * n_players, seed=seed).attributions) / game.scales).max()
        for seed in range(50)
    )

    assert worst < 10


def test_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    game = random_game(12)

    first, again, other = (kernel_of(game, pairs=100, seed=seed) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first.attributions, again.attributions)
    np.testing.assert_array_equal(first.standard_errors, again.standard_errors)
    assert (first.attributions != other.attributions).all()


def test_result_does_not_depend_on_how_pairs_fall_into_rounds() -> None:
    game = random_game(12)

    in_rounds, at_once = (kernel_of(game, pairs=320, slice_rows=slice_rows) for slice_rows in (8, 10_000))

    np.testing.assert_array_equal(in_rounds.attributions, at_once.attributions)
    np.testing.assert_array_equal(in_rounds.standard_errors, at_once.standard_errors)


def test_targets_share_the_evaluations_and_do_not_change_each_other() -> None:
    game = random_game(12)

    alone = kernel(game, [1], seed=0, limits=budget_of(game, 100), slice_rows=SLICE_ROWS)
    turned = kernel(game, [1, 0], seed=0, limits=budget_of(game, 100), slice_rows=SLICE_ROWS)

    np.testing.assert_allclose(alone.attributions[:, 0], turned.attributions[:, 0], rtol=1e-12)
    assert alone.evaluations == turned.evaluations
    np.testing.assert_array_equal(turned.values, game.value[[1, 0]])


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(1e-9, None, may_go_on=lambda rows: rows < 300), id="deadline"),
        pytest.param(Limits(1e-9, 777), id="budget"),
        pytest.param(Limits(0.05, None), id="tolerance"),
        pytest.param(Limits(1e-9, None), id="every coalition"),
    ],
)
def test_replay_of_the_evaluations_gives_the_same_bits_and_the_same_reason(limits: Limits) -> None:
    game = random_game(10)
    recorded = kernel(game, [0, 1], seed=5, limits=limits, slice_rows=SLICE_ROWS)

    replayed = kernel(
        game,
        [0, 1],
        seed=5,
        limits=replace(limits, may_go_on=lambda _: False, evaluations=recorded.evaluations),
        slice_rows=SLICE_ROWS,
    )

    assert (recorded.evaluations, recorded.stop_reason) == (replayed.evaluations, replayed.stop_reason)
    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)
    np.testing.assert_array_equal(recorded.standard_errors, replayed.standard_errors)


def test_stops_at_the_first_round_within_the_tolerance() -> None:
    game = random_game(12)
    asked: list[int] = []

    estimate = kernel(
        game, [0, 1], seed=0, limits=Limits(0.005, None, may_go_on=recorder(asked)), slice_rows=SLICE_ROWS
    )

    assert "tolerance" == estimate.stop_reason
    assert (estimate.half_widths <= 0.005 * estimate.scales).all()
    before = kernel_of(game, pairs=(estimate.evaluations - asked[-1]) // (2 * len(game.background.rows)))
    assert (before.half_widths > 0.005 * before.scales).any()


def test_stops_at_the_deadline_after_asking_before_each_round() -> None:
    asked: list[int] = []
    game = random_game(12)

    estimate = kernel(
        game, [0], seed=0, limits=Limits(1e-9, None, may_go_on=recorder(asked, until=3)), slice_rows=SLICE_ROWS
    )

    assert "deadline" == estimate.stop_reason
    rows_per_pair = 2 * len(game.background.rows)
    first, errors = LEAST_PAIRS * 12 * rows_per_pair, PAIRS_FOR_ERRORS * 12 * rows_per_pair
    assert [errors - first, asked[1], asked[2]] == asked
    assert errors + asked[1] == estimate.evaluations


@pytest.mark.parametrize("budget", [96, 97, 100, 191, 192, 1000, 1001, 3999])
def test_budget_is_never_exceeded_and_nothing_is_evaluated_twice(budget: int) -> None:
    seen: list[bytes] = []
    game = random_game(12, n_background=2)
    calls: list[int] = []

    def counting(rows: Any) -> Any:
        calls.append(len(rows))
        seen.extend(row.tobytes() for row in rows)
        return game.evaluate(rows)

    watched = Game(counting, game.row, game.background, game.players)

    estimate = kernel(watched, [0], seed=0, limits=Limits(0, budget), slice_rows=SLICE_ROWS)

    rows_for_the_value = 1
    assert "budget" == estimate.stop_reason
    assert budget - 4 < estimate.evaluations <= budget
    assert estimate.evaluations == sum(calls) - rows_for_the_value
    assert len(seen) == len(set(seen))
    assert max(calls) <= SLICE_ROWS


@pytest.mark.parametrize(("n_players", "needed"), [(12, 2 * 12 * 8), (4, 7 * 8)])
def test_budget_below_what_is_well_posed_is_refused(n_players: int, needed: int) -> None:
    game = random_game(n_players, n_background=4)

    with pytest.raises(BudgetTooSmall) as refusal:
        kernel(game, [0], seed=0, limits=Limits(0, needed - 1), slice_rows=SLICE_ROWS)
    enough = kernel(game, [0], seed=0, limits=Limits(0, needed), slice_rows=SLICE_ROWS)

    assert needed == refusal.value.needed == enough.evaluations


def test_row_equal_to_every_background_row_has_nothing_to_share_out() -> None:
    game = random_game(5)
    same = Game(game.evaluate, game.row, Background.of(game.row[np.newaxis], game.evaluate), game.players)

    estimate = kernel_of(same, tolerance=0.01)

    np.testing.assert_array_equal(estimate.attributions, np.zeros((5, 2)))
    assert (0, "exact") == (estimate.evaluations, estimate.stop_reason)


@pytest.mark.parametrize("n_players", [2, 3, 6, 7, 8])
def test_stream_of_pairs_ends_with_every_pair_once(n_players: int) -> None:
    pairs = PairStream(n_players, seed=0)

    drawn = np.concatenate([pairs.take(1)[0] for _ in range(pairs.n_pairs)])

    names = {tuple(row) for row in drawn.tolist()} | {tuple(row) for row in (~drawn).tolist()}
    assert 2**n_players - 2 == len(names)
    assert 2 ** (n_players - 1) - 1 == pairs.n_pairs


def test_large_strata_draw_without_repetition_and_go_on_where_they_were() -> None:
    """40 players: all sizes from 4 up are too many to be numbered."""
    at_once, in_parts = PairStream(40, seed=1), PairStream(40, seed=1)

    whole, strata = at_once.take(3000)
    parts, their_strata = (
        np.concatenate(column) for column in zip(*(in_parts.take(1000) for _ in range(3)), strict=True)
    )

    assert {tuple(row) for row in whole.tolist()} == {tuple(row) for row in parts.tolist()}
    assert 3000 == len({row.tobytes() for row in np.concatenate([whole, ~whole])}) // 2
    np.testing.assert_array_equal(np.sort(strata), np.sort(their_strata))
    np.testing.assert_array_equal(whole.sum(axis=1), strata + 1)
    assert whole[strata == 19, 0].all()


def test_strata_are_served_alike_and_small_coalitions_a_little_more() -> None:
    pairs = PairStream(10, seed=0)

    counts = [pairs.counts(n_pairs) for n_pairs in (10, 80, 300, 511)]

    assert [[3, 2, 2, 2, 1], [10, 22, 20, 19, 9], [10, 45, 100, 97, 48], [10, 45, 120, 210, 126]] == counts


@pytest.mark.parametrize("n_players", [5, 8, 13])
def test_counts_add_up_and_never_fall(n_players: int) -> None:
    pairs = PairStream(n_players, seed=0)

    counts = np.array([pairs.counts(n_pairs) for n_pairs in range(pairs.n_pairs + 1)])

    np.testing.assert_array_equal(counts.sum(axis=1), np.arange(pairs.n_pairs + 1))
    assert (np.diff(counts, axis=0) >= 0).all()
    np.testing.assert_array_equal(counts[-1], pairs.stratum_sizes)


def test_every_coalition_of_a_size_is_drawn_as_often() -> None:
    firsts = [PairStream(6, seed=seed).take(8) for seed in range(2000)]

    pairs_of_two = [tuple(np.flatnonzero(drawn[strata == 1][0])) for drawn, strata in firsts]

    counts = [pairs_of_two.count(pair) for pair in itertools.combinations(range(6), 2)]
    assert 0 not in counts
    # chi-squared with 14 degrees of freedom; p < 0.0001 at 42.6
    assert sum((count - 2000 / 15) ** 2 / (2000 / 15) for count in counts) < 42.6


def test_numbered_coalitions_are_the_combinations_in_order() -> None:
    coalitions = numbered_coalitions(np.arange(35), 7, 3)

    expected = list(itertools.combinations(range(7), 3))
    assert expected == [tuple(np.flatnonzero(coalition)) for coalition in coalitions]


def random_game(n_players: int, *, seed: int = 0, n_background: int = 4, without: int | None = None) -> Game:
    """A float64 network of two outputs with interactions of every order, and an unequally weighted background."""
    rng = np.random.default_rng(seed)
    inner, bias = rng.normal(size=(n_players, 12)) * 2 / math.sqrt(n_players), rng.normal(size=12)
    outer = rng.normal(size=(12, 2))
    if without is not None:
        inner[without] = 0

    def evaluate(rows: Any) -> Any:
        # einsum: a BLAS product's last bits depend on the number of rows
        hidden = np.einsum("nd,dh->nh", rows.astype(np.float64), inner)
        return np.einsum("nh,ho->no", np.maximum(hidden + bias, 0), outer)

    return game_of(evaluate, rng.normal(size=n_players), rng.normal(size=(n_background, n_players)), rng)


def unanimity_game(n_players: int, *, seed: int) -> tuple[Game, Any]:
    """Sums of unanimity games, each paying its coefficient once all of its members are in, and their Shapley values."""
    rng = np.random.default_rng(seed)
    members = np.array(
        [
            np.isin(np.arange(n_players), rng.choice(n_players, rng.integers(1, 6), replace=False))
            for _ in range(5 * n_players)
        ]
    )
    coefficients = rng.normal(size=(len(members), 2))

    def evaluate(rows: Any) -> Any:
        return (rows @ members.T.astype(float) == members.sum(axis=1)) @ coefficients

    game = game_of(evaluate, np.ones(n_players), np.zeros((1, n_players)), rng)
    return game, (members / members.sum(axis=1, keepdims=True)).T @ coefficients


def game_of(evaluate: Evaluate, row: Any, background: Any, rng: np.random.Generator) -> Game:
    weights = rng.dirichlet(np.full(len(background), 5.0))
    reference = Background.of(background.astype(np.float32), evaluate, weights)
    return Game(evaluate, row.astype(np.float32), reference, feature_players(len(row)))


def budget_of(game: Game, pairs: int) -> Limits:
    return Limits(0, pairs * 2 * len(game.background.rows))


def kernel_of(
    game: Game,
    *,
    pairs: int | None = None,
    tolerance: float = 0,
    seed: int = 0,
    slice_rows: int = SLICE_ROWS,
) -> Estimate:
    limits = Limits(tolerance) if pairs is None else budget_of(game, pairs)
    return kernel(game, range(len(game.value)), seed=seed, limits=limits, slice_rows=slice_rows)


def pairs_of(estimate: Estimate, game: Game) -> int:
    return estimate.evaluations // (2 * len(game.background.rows))


def recorder(asked: list[int], *, until: int = 1000) -> Callable[[int], bool]:
    """Says yes until it has been asked so many times."""

    def may_go_on(rows: int) -> bool:
        asked.append(rows)
        return len(asked) < until

    return may_go_on
