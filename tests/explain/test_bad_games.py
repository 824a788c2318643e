"""Games that have little or nothing to explain: each a right answer or a clear error, by every method of coalitions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from known_games import game_of, random_network

from explain.attribution import Estimate
from explain.errors import ExplanationError, MethodDoesNotFit
from explain.exact import exact
from explain.game import Background, Game
from explain.limits import Limits
from explain.partition import partition
from explain.permutation import permutation
from explain.regression import kernel

Method = Callable[[Game, Limits], Estimate]
METHODS: dict[str, Method] = {
    "exact": lambda game, _: exact(game, slice_rows=512),
    "kernel": lambda game, limits: kernel(game, [0], seed=0, limits=limits, slice_rows=512),
    "permutation": lambda game, limits: permutation(game, [0], seed=0, limits=limits, slice_rows=512),
    "partition": lambda game, limits: partition(game, [0], seed=0, limits=limits, slice_rows=512),
}
SAMPLING = {name: method for name, method in METHODS.items() if name != "exact"}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


def test_row_equal_to_the_whole_background_has_nothing_to_share_out(method: Method) -> None:
    network = random_network(5)
    game = game_of(network.evaluate, network.row, [network.row, network.row])

    estimate = method(game, Limits(0.01))

    np.testing.assert_array_equal(estimate.attributions[:, 0], np.zeros(5))
    np.testing.assert_array_equal(estimate.standard_errors[:, 0], np.zeros(5))
    assert "exact" == estimate.stop_reason


def test_background_of_one_row_without_variance_is_a_baseline(method: Method) -> None:
    game = random_network(5, n_background=1)
    assert 0 == game.background.spreads.max()

    estimate = method(game, Limits(0.01))

    assert "exact" == estimate.stop_reason
    assert abs(estimate.efficiency_residuals[0]) <= 1e-12 * estimate.scales[0]
    np.testing.assert_array_equal(estimate.standard_errors[:, 0], np.zeros(5))


def test_background_of_equal_rows_is_one_row(method: Method) -> None:
    game = random_network(5, n_background=1)
    repeated = Game(
        game.evaluate, game.row, Background.of(game.background.rows.repeat(3, axis=0), game.evaluate), game.players
    )

    alone, together = (method(each, Limits(0.01)).attributions[:, 0] for each in (game, repeated))

    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_players", [1, 5])
def test_constant_model_gives_nothing_to_anybody(method: Method, n_players: int) -> None:
    def constant(rows: Any) -> Any:
        return np.full((len(rows), 1), 0.7)

    network = random_network(n_players)
    game = game_of(constant, network.row, network.background.rows)

    estimate = method(game, Limits(0.01))

    np.testing.assert_allclose(estimate.attributions, np.zeros((n_players, 1)), rtol=0, atol=1e-15)
    assert estimate.stop_reason in ("exact", "tolerance")


@pytest.mark.parametrize("name", SAMPLING)
def test_constant_model_of_many_players_is_within_any_tolerance(name: str) -> None:
    network = random_network(40)
    game = game_of(lambda rows: np.full((len(rows), 1), 0.7), network.row, network.background.rows)

    estimate = SAMPLING[name](game, Limits(0.01))

    np.testing.assert_allclose(estimate.attributions, np.zeros((40, 1)), rtol=0, atol=1e-15)
    assert estimate.stop_reason in ("exact", "tolerance")


def test_single_player_gets_all(method: Method) -> None:
    game = random_network(1)

    estimate = method(game, Limits(0.01))

    expected = game.value[0] - game.background.base_values[0]
    np.testing.assert_allclose(estimate.attributions[0, 0], expected, rtol=0, atol=1e-12)
    assert ("exact", 0.0) == (estimate.stop_reason, estimate.standard_errors[0, 0])


@pytest.mark.parametrize("name", ["permutation", "partition"])
def test_a_thousand_players_are_explained(name: str) -> None:
    game = random_network(1000, n_background=1)

    estimate = SAMPLING[name](game, Limits(0, 5 * 2 * 999))

    assert "budget" == estimate.stop_reason
    assert abs(estimate.efficiency_residuals[0]) <= 1e-10 * estimate.scales[0]
    assert (estimate.standard_errors[:, 0] > 0).all()


def test_a_thousand_players_are_too_many_for_every_coalition() -> None:
    with pytest.raises(MethodDoesNotFit, match="at most 20 players, and 1000 differ"):
        exact(random_network(1000, n_background=1), slice_rows=512)


@pytest.mark.parametrize("name", SAMPLING)
def test_budget_of_nothing_is_refused_with_what_is_needed(name: str) -> None:
    with pytest.raises(ExplanationError, match="needs a budget of at least"):
        SAMPLING[name](random_network(40), Limits(0.01, 0))
