"""Random orders with their reverses: known values, honest errors, the axioms, reproducibility, and when it stops."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_games import coalition_game, game_of, random_network, unanimity_game

from explain.attribution import Estimate
from explain.errors import BudgetTooSmall
from explain.exact import exact
from explain.game import Background, Game
from explain.limits import Limits
from explain.permutation import permutation

SLICE_ROWS = 64


@pytest.mark.parametrize("n_players", [20, 60, 100])
def test_unanimity_games_are_met_within_the_stated_errors(n_players: int) -> None:
    known = unanimity_game(n_players, seed=0)

    estimate = permutation_of(known.game, pairs=24)

    deviations = (estimate.attributions - known.shapley) / estimate.standard_errors
    assert 0.8 < np.sqrt((deviations**2).mean()) < 1.25
    relative = ((estimate.attributions - known.shapley) ** 2).sum() / (known.shapley**2).sum()
    assert relative < 0.05


def test_one_pair_is_right_where_no_more_than_two_players_interact() -> None:
    rng = np.random.default_rng(0)
    slopes, bends = rng.normal(size=30), rng.normal(size=(30, 30))
    game = coalition_game(30, lambda rows: (rows @ slopes + np.einsum("ni,ij,nj->n", rows, bends, rows))[:, None])
    both = bends + bends.T
    expected = slopes + np.diag(bends) + (both.sum(axis=1) - np.diag(both)) / 2

    estimate = permutation_of(game, pairs=1)

    np.testing.assert_allclose(estimate.attributions[:, 0], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_players", [1, 2, 3, 4, 7])
def test_is_exact_without_error_once_all_coalitions_cost_no_more_than_the_next_round(n_players: int) -> None:
    game = random_network(n_players)

    estimate = permutation_of(game, tolerance=1e-9)

    np.testing.assert_allclose(estimate.attributions, exact(game, slice_rows=SLICE_ROWS).attributions, atol=1e-12)
    assert ("exact", (2**n_players - 2) * 4) == (estimate.stop_reason, estimate.evaluations)
    np.testing.assert_array_equal(estimate.standard_errors, np.zeros((n_players, 2)))


def test_no_row_is_evaluated_twice_even_where_players_tie_with_the_background() -> None:
    seen: list[bytes] = []
    game = tied_game()

    def watching(rows: Any) -> Any:
        seen.extend(row.tobytes() for row in rows)
        return game.evaluate(rows)

    watched = Game(watching, game.row, game.background, game.players)

    estimate = permutation(watched, [0], seed=0, limits=Limits(0, 400), slice_rows=SLICE_ROWS)

    known_beforehand = {game.row.tobytes(), *(row.tobytes() for row in game.background.rows)}
    rows_for_the_value = 1
    assert len(seen) == len(set(seen))
    assert len(seen) == estimate.evaluations + rows_for_the_value
    assert not known_beforehand & set(seen[rows_for_the_value:])
    assert estimate.evaluations > 100


def test_ties_with_the_background_change_no_value() -> None:
    game = tied_game()

    estimate = permutation(game, [0, 1], seed=0, limits=Limits(0), slice_rows=SLICE_ROWS)

    assert "exact" == estimate.stop_reason
    np.testing.assert_allclose(estimate.attributions, exact(game, slice_rows=SLICE_ROWS).attributions, atol=1e-12)
    by_row = 2.0 ** game.differing.sum(axis=1)
    assert np.maximum(by_row - 2, 0).sum() == estimate.evaluations


@pytest.mark.parametrize("pairs", [1, 4, 20])
def test_attributions_add_up_to_the_value(pairs: int) -> None:
    estimate = permutation_of(random_network(40), pairs=pairs)

    assert (np.abs(estimate.efficiency_residuals) <= 1e-12 * estimate.scales).all()


def test_player_that_the_model_ignores_gets_nothing() -> None:
    estimate = permutation_of(random_network(20, without=5), pairs=6)

    assert (np.abs(estimate.attributions[5]) <= 1e-12 * estimate.scales).all()


def test_players_that_nothing_tells_apart_differ_by_no_more_than_their_errors() -> None:
    game = coalition_game(12, lambda rows: np.tanh(rows[:, :2].sum(axis=1) * rows[:, 2:].sum(axis=1) / 4)[:, None])

    estimate = permutation_of(game, pairs=40)

    first, second = estimate.attributions[:2, 0]
    assert abs(first - second) <= 2 * estimate.half_widths[:2].sum()
    assert abs(first) > 10 * abs(first - second)


def test_attributions_of_a_sum_of_models_are_the_sum_of_attributions() -> None:
    game, other = random_network(16, seed=1), random_network(16, seed=2)

    def combined(rows: Any) -> Any:
        return game.evaluate(rows) - 2 * other.evaluate(rows)

    first, second, together = (
        permutation_of(Game(model, game.row, Background.of(game.background.rows, model), game.players), pairs=5)
        for model in (game.evaluate, other.evaluate, combined)
    )

    np.testing.assert_allclose(together.attributions, first.attributions - 2 * second.attributions, atol=1e-12)


def test_no_error_is_stated_from_fewer_than_four_pairs() -> None:
    few, enough = (permutation_of(random_network(30), pairs=pairs) for pairs in (3, 4))

    assert np.isnan(few.standard_errors).all()
    assert np.isnan(few.half_widths).all()
    assert (enough.standard_errors > 0).all()
    assert (enough.half_widths > enough.standard_errors).all()


def test_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    game = random_network(20)

    first, again, other = (permutation_of(game, pairs=8, seed=seed) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first.attributions, again.attributions)
    np.testing.assert_array_equal(first.standard_errors, again.standard_errors)
    assert (first.attributions != other.attributions).all()


def test_result_does_not_depend_on_how_pairs_fall_into_rounds() -> None:
    game = random_network(20)

    in_rounds, at_once = (permutation_of(game, pairs=40, slice_rows=slice_rows) for slice_rows in (16, 100_000))

    np.testing.assert_array_equal(in_rounds.attributions, at_once.attributions)
    np.testing.assert_array_equal(in_rounds.standard_errors, at_once.standard_errors)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(1e-9, None, may_go_on=lambda rows: rows < 3000), id="deadline"),
        pytest.param(Limits(1e-9, 2777), id="budget"),
        pytest.param(Limits(0.05, None), id="tolerance"),
        pytest.param(Limits(0.0, None), id="every coalition"),
    ],
)
@pytest.mark.parametrize("n_players", [5, 11])
def test_replay_of_the_evaluations_gives_the_same_bits_and_the_same_reason(limits: Limits, n_players: int) -> None:
    game = random_network(n_players)
    recorded = permutation(game, [0, 1], seed=5, limits=limits, slice_rows=SLICE_ROWS)

    again = replace(limits, may_go_on=lambda _: False, evaluations=recorded.evaluations)
    replayed = permutation(game, [0, 1], seed=5, limits=again, slice_rows=SLICE_ROWS)

    assert (recorded.evaluations, recorded.stop_reason) == (replayed.evaluations, replayed.stop_reason)
    np.testing.assert_array_equal(recorded.attributions, replayed.attributions)
    np.testing.assert_array_equal(recorded.standard_errors, replayed.standard_errors)


def test_stops_at_the_first_round_within_the_tolerance() -> None:
    game = random_network(30)
    asked: list[int] = []

    estimate = permutation(
        game, [0, 1], seed=0, limits=Limits(0.1, None, may_go_on=recorder(asked)), slice_rows=SLICE_ROWS
    )

    assert "tolerance" == estimate.stop_reason
    assert (estimate.half_widths <= 0.1 * estimate.scales).all()
    before = permutation_of(game, pairs=(estimate.evaluations - asked[-1]) // (2 * 29 * 4))
    assert not (before.half_widths <= 0.1 * before.scales).all()


@pytest.mark.parametrize("budget", [232, 463, 464, 2000, 2321])
def test_budget_is_never_exceeded(budget: int) -> None:
    estimate = permutation(random_network(30), [0], seed=0, limits=Limits(0, budget), slice_rows=SLICE_ROWS)

    assert "budget" == estimate.stop_reason
    rows_per_pair = 2 * 29 * 4
    assert budget - rows_per_pair < estimate.evaluations <= budget


@pytest.mark.parametrize(("n_players", "needed"), [(30, 2 * 29 * 4), (3, 4 * 4)])
def test_budget_below_one_pair_is_refused(n_players: int, needed: int) -> None:
    game = random_network(n_players)

    with pytest.raises(BudgetTooSmall) as refusal:
        permutation(game, [0], seed=0, limits=Limits(0, needed - 1), slice_rows=SLICE_ROWS)
    enough = permutation(game, [0], seed=0, limits=Limits(0, needed), slice_rows=SLICE_ROWS)

    assert needed == refusal.value.needed
    assert enough.evaluations <= needed


def permutation_of(
    game: Game, *, pairs: int | None = None, tolerance: float = 0, seed: int = 0, slice_rows: int = SLICE_ROWS
) -> Estimate:
    budget = None if pairs is None else pairs * 2 * (game.n_players - 1) * len(game.background.rows)
    return permutation(game, range(len(game.value)), seed=seed, limits=Limits(tolerance, budget), slice_rows=slice_rows)


def tied_game() -> Game:
    """Eight players, each equal to the background in half of its six rows, which are equal nowhere else."""
    network = random_network(8, seed=1)
    rng = np.random.default_rng(1)
    row = np.ones(8)
    background = np.where(rng.random((6, 8)) < 0.5, row, np.arange(2, 8)[:, np.newaxis])
    return game_of(network.evaluate, row, background, weights=rng.dirichlet(np.ones(6)))


def recorder(asked: list[int]) -> Callable[[int], bool]:
    def may_go_on(rows: int) -> bool:
        asked.append(rows)
        return True

    return may_go_on
