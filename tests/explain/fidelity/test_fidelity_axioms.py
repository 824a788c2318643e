"""The axioms, on explainers that keep them and on those that break one each."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from small_models import (
    Network,
    by_exact,
    by_expected_gradients,
    by_kernel,
    changed,
    doubled,
    flipped,
    rows_of,
    shuffled,
    subject_of,
)

from explain.attribution import Estimate
from explain.fidelity import axioms
from explain.fidelity.subject import Explain
from explain.game import Background, Game
from explain.players import feature_players

NETWORK = Network(9, 0)
GRADIENTS = by_expected_gradients(NETWORK, 0.02)


def game_of(row: int = 0) -> Game:
    return subject_of(NETWORK.evaluate, by_exact, 9, seed=0).game(rows_of(4, 9, 0)[row])


@pytest.mark.parametrize(("explain", "tolerance"), [(by_exact, 1e-5), (by_kernel(0.05), 1e-5), (GRADIENTS, 0.02)])
def test_right_explainers_add_up(explain: Explain, tolerance: float) -> None:
    game = game_of()

    excess = axioms.efficiency_excess(game, explain(game, (1, 0), 0), (1, 0), tolerance=tolerance)

    assert excess <= 1


@pytest.mark.parametrize("change", [flipped, doubled])
def test_explainers_that_do_not_add_up_exceed(change: Callable[..., np.ndarray]) -> None:
    game = game_of()

    excess = axioms.efficiency_excess(game, changed(by_exact, change)(game, (1,), 0), (1,), tolerance=1e-5)

    assert excess > 1000


def test_what_an_explainer_says_of_the_output_does_not_help_it() -> None:
    game = game_of()
    estimate = by_exact(game, (0,), 0)
    lying = replace(estimate, attributions=estimate.attributions * 0, values=estimate.base_values)

    assert axioms.efficiency_excess(game, lying, (0,), tolerance=1e-5) > 1000


def test_rounding_of_an_output_that_hardly_varies_is_no_violation() -> None:
    """1e-6 beside 1: float32 holds it to a tenth, and what the outputs lost cannot add up."""

    def evaluate(rows: np.ndarray) -> np.ndarray:
        return (1 + 1e-6 * NETWORK.evaluate(rows)).astype(np.float32)

    game = subject_of(evaluate, by_exact, 9, seed=0).game(rows_of(1, 9, 0)[0])
    estimate = by_exact(game, (0,), 0)
    noise = np.full_like(estimate.attributions, 2e-8)

    excess = axioms.efficiency_excess(
        game, replace(estimate, attributions=estimate.attributions + noise), (0,), tolerance=1e-5
    )

    assert excess <= 1


@pytest.mark.parametrize("explain", [by_exact, by_kernel(0.05), GRADIENTS])
def test_right_explainers_give_a_player_that_equals_the_background_nothing(explain: Explain) -> None:
    excesses = [axioms.tied_player_excess(explain, game_of(), 0, player, seed=0) for player in range(9)]

    assert max(excesses) <= 1


@pytest.mark.parametrize("explain", [by_exact, by_kernel(0.05)])
def test_right_explainers_keep_the_axioms_of_made_models(explain: Explain) -> None:
    game = game_of()

    excesses = [
        axioms.ignored_player_excess(explain, game, 0, 3, seed=0),
        axioms.symmetry_excess(explain, game, 0, (3, 5), seed=0),
        axioms.linearity_excess(explain, game, 0, seed=0),
    ]

    assert max(excesses) <= 1


def test_a_shuffled_explainer_gives_idle_players_something_and_twins_different_parts() -> None:
    explain = changed(by_exact, shuffled)

    excesses = [
        [
            axioms.tied_player_excess(explain, game_of(row), 0, 3, seed=0),
            axioms.ignored_player_excess(explain, game_of(row), 0, 3, seed=0),
            axioms.symmetry_excess(explain, game_of(row), 0, (3, 5), seed=0),
        ]
        for row in range(4)
    ]

    # Now and then a shuffle leaves a player where it was.
    assert (np.max(excesses, axis=0) > 1000).all()


def test_an_explainer_that_is_not_linear_is_found() -> None:
    explain = changed(by_exact, lambda _, attributions: attributions * np.abs(attributions))

    assert axioms.linearity_excess(explain, game_of(), 0, seed=0) > 1000


def test_attributions_that_are_not_numbers_are_infinitely_wrong() -> None:
    explain = changed(by_exact, lambda _, attributions: attributions * np.nan)

    assert np.inf == axioms.tied_player_excess(explain, game_of(), 0, 3, seed=0)
    assert np.inf == axioms.linearity_excess(explain, game_of(), 0, seed=0)


def test_two_runs_with_one_seed_differ_by_nothing_or_by_how_much() -> None:
    game = game_of()
    explain = by_kernel(0.05)
    one, other, longer = explain(game, (0,), 1), explain(game, (0,), 2), by_kernel(0.01)(game, (0,), 1)

    assert 0 == axioms.difference_of(one, explain(game, (0,), 1))
    assert 0 < axioms.difference_of(one, other) < 1
    assert np.inf == axioms.difference_of(one, longer)


def test_players_of_several_elements_are_made_idle_and_alike() -> None:
    """Windows of a series: two steps of two channels belong to a player."""
    players = np.repeat(feature_players(4), 4).reshape(8, 2)
    network = Network(16, 2)

    def evaluate(rows: np.ndarray) -> np.ndarray:
        return network.evaluate(rows.reshape(len(rows), -1))

    references = rows_of(6, 16, 1).reshape(6, 8, 2)
    game = Game(evaluate, rows_of(1, 16, 0).reshape(8, 2), Background.of(references, evaluate), players)

    excesses = [
        axioms.tied_player_excess(by_exact, game, 0, 1, seed=0),
        axioms.ignored_player_excess(by_exact, game, 0, 1, seed=0),
        axioms.symmetry_excess(by_exact, game, 0, (1, 2), seed=0),
        axioms.linearity_excess(by_exact, game, 0, seed=0),
    ]

    assert max(excesses) <= 1


def test_weights_of_the_background_are_kept() -> None:
    weights = np.arange(1.0, 17) / 136
    game = game_of()
    game = replace(game, background=Background(game.background.rows, weights, game.background.outputs))
    seen: list[np.ndarray] = []

    def explain(made: Game, targets: Sequence[int], seed: int) -> Estimate:
        seen.append(made.background.weights)
        return by_exact(made, targets, seed)

    axioms.tied_player_excess(explain, game, 0, 1, seed=0)
    axioms.ignored_player_excess(explain, game, 0, 1, seed=0)
    axioms.symmetry_excess(explain, game, 0, (0, 1), seed=0)
    axioms.linearity_excess(explain, game, 0, seed=0)

    assert 4 == len(seen)
    for used in seen:
        np.testing.assert_array_equal(used, weights)
