"""MuFidelity and infidelity on additive models, where both are known, and where they have no meaning."""

import math

import numpy as np
import pytest
from small_models import Network, rows_of

from explain.exact import exact
from explain.fidelity.removal import draw_removals, infidelity, mu_fidelity
from explain.game import Background, Evaluate, Game
from explain.players import feature_players


def game_of(evaluate: Evaluate, n_features: int = 9, n_background: int = 1) -> Game:
    references = np.zeros((1, n_features), np.float32) if n_background == 1 else rows_of(n_background, n_features, 7)
    return Game(
        evaluate, rows_of(1, n_features, 3)[0], Background.of(references, evaluate), feature_players(n_features)
    )


def total(rows: np.ndarray) -> np.ndarray:
    return rows.sum(axis=1, keepdims=True, dtype=np.float64)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_mu_fidelity_of_a_sum_is_one_for_its_parts_and_minus_one_for_their_opposites(size: int) -> None:
    game = game_of(total)
    parts = game.row.astype(np.float64)
    removals = draw_removals(game, 0, n_subsets=100, seed=0, slice_rows=64, size=size)

    right, opposite = mu_fidelity(parts, removals), mu_fidelity(-parts, removals)

    assert (1.0, -1.0) == (pytest.approx(right), pytest.approx(opposite))
    assert (removals.removed.sum(axis=1) == size).all()


def test_infidelity_of_the_exact_attributions_of_a_linear_model_is_zero() -> None:
    weights = np.arange(1, 10, dtype=np.float64)
    game = game_of(lambda rows: rows.astype(np.float64) @ weights[:, np.newaxis], n_background=12)
    parts = weights * (game.row - game.background.rows.mean(axis=0, dtype=np.float64))
    removals = draw_removals(game, 0, n_subsets=100, seed=0, slice_rows=64)

    right, doubled, nothing = (infidelity(scale * parts, removals) for scale in (1, 2, 0))

    assert right == pytest.approx(0, abs=1e-20)
    assert nothing == pytest.approx(np.mean(removals.drops**2))
    assert doubled == pytest.approx(nothing)


def test_sets_of_all_sizes_are_removed_where_none_is_given() -> None:
    removals = draw_removals(game_of(total), 0, n_subsets=300, seed=0, slice_rows=64)

    assert set(range(1, 9)) == set(removals.removed.sum(axis=1).tolist())


def test_shapley_values_foretell_removals_better_than_others() -> None:
    network = Network(9, 1)
    game = game_of(network.evaluate, n_background=16)
    values = exact(game, slice_rows=4096).attributions[:, 0]
    wrong = np.random.default_rng(0).permutation(values)
    removals = draw_removals(game, 0, n_subsets=300, seed=0, slice_rows=4096)

    assert mu_fidelity(values, removals) > 0.8 > mu_fidelity(wrong, removals)
    assert infidelity(values, removals) < 0.2 * infidelity(wrong, removals)


@pytest.mark.parametrize("attributions", [np.ones(9), np.zeros(9), np.arange(9.0)])
def test_mu_fidelity_has_no_meaning_where_nothing_varies(attributions: np.ndarray) -> None:
    constant = game_of(lambda rows: np.full((len(rows), 1), 3.7))

    removals = draw_removals(constant, 0, n_subsets=50, seed=0, slice_rows=64, size=2)

    assert math.isnan(mu_fidelity(attributions, removals))


def test_one_player_can_be_removed() -> None:
    game = game_of(total, n_features=1)

    removals = draw_removals(game, 0, n_subsets=5, seed=0, slice_rows=64)

    assert infidelity(game.row.astype(np.float64), removals) == pytest.approx(0, abs=1e-20)
