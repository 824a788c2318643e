"""What `kernel` learns of triples of players: features without Shapley values, predictions, and what it gains."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain.attribution import Estimate
from explain.exact import all_coalitions, shapley_matrix
from explain.game import Background, Evaluate, Game
from explain.limits import Limits
from explain.players import feature_players
from explain.proxy import PENALTIES, RANK, Regression, best_penalties, triple_features
from explain.regression import kernel


def test_no_shapley_value_depends_on_a_feature() -> None:
    signs = np.where(all_coalitions(6), 1.0, -1.0)

    features = triple_features(signs, np.arange(1.0, 7.0))

    np.testing.assert_allclose(shapley_matrix(6) @ features, 0, atol=1e-9 * np.abs(features).max())
    np.testing.assert_allclose(features[::-1], -features, atol=1e-9 * np.abs(features).max())


def test_features_span_all_triples_weighted_by_their_players() -> None:
    signs = np.where(all_coalitions(6), 1.0, -1.0)
    weights = np.random.default_rng(0).uniform(0.1, 1, size=6)

    features = triple_features(signs, weights)

    expected = np.zeros((64, 64))
    for triple in itertools.combinations(range(6), 3):
        values = signs[:, triple].prod(axis=1) - signs[:, triple].mean(axis=1)
        expected += weights[list(triple)].prod() * np.outer(values, values)
    assert 20 == features.shape[1]
    np.testing.assert_allclose(features @ features.T, expected, atol=1e-6 * expected.max())


@pytest.mark.parametrize("n_players", [1, 2])
def test_fewer_than_three_players_have_no_triples(n_players: int) -> None:
    signs = np.where(all_coalitions(n_players), 1.0, -1.0)

    assert 0 == triple_features(signs, np.ones(n_players)).shape[1]


def test_no_more_features_than_the_rank() -> None:
    signs = np.where(np.random.default_rng(0).random((400, 40)) < 0.5, 1.0, -1.0)

    assert (400, RANK) == triple_features(signs, np.ones(40)).shape


def test_penalty_is_that_of_greatest_restricted_likelihood() -> None:
    rng = np.random.default_rng(0)
    features, responses = rng.normal(size=(50, 12)), rng.normal(size=(50, 3))
    responses[:, 0] += features @ rng.normal(size=12)

    penalties = best_penalties(features.T @ features, features.T @ responses, (responses**2).sum(axis=0), 45)

    for target, penalty in enumerate(penalties):
        covariances = [np.eye(50) + features @ features.T / tried for tried in PENALTIES]
        likelihoods = [
            45 * np.log(responses[:, target] @ np.linalg.solve(covariance, responses[:, target]))
            + np.linalg.slogdet(covariance)[1]
            for covariance in covariances
        ]
        assert PENALTIES[np.argmin(likelihoods)] == penalty


def test_observations_left_out_are_predicted_as_by_leaving_them_out() -> None:
    """The closed form, against solving the penalized regression again without the observation."""
    rng = np.random.default_rng(0)
    n_seen, n_players, n_features, penalty = 40, 5, 8, 0.7
    regressors, features = rng.normal(size=(n_seen, n_players)), rng.normal(size=(n_seen, n_features))
    weights, responses = rng.uniform(0.5, 2, n_seen), rng.normal(size=n_seen)
    influences = weights[:, None] * regressors @ np.linalg.inv(regressors.T @ (weights[:, None] * regressors))
    attributions = influences.T @ responses
    residuals = responses - regressors @ attributions
    leverages = (influences * regressors).sum(axis=1)
    onto_players = influences.T @ features
    rest = features - regressors @ onto_players
    weighted = weights[:, None] * rest
    regression = Regression(
        regressors, regressors, weights, leverages, influences, attributions[:, None], residuals[:, None]
    )

    correction = regression._correction(onto_players, rest, weighted, rest.T @ weighted, residuals, penalty)

    def solve(seen: Any) -> Any:
        design = np.concatenate([regressors, features], axis=1)[seen]
        penalties = np.diag([0.0] * n_players + [penalty] * n_features)
        normal = design.T @ (weights[seen, None] * design) + penalties
        return np.linalg.solve(normal, design.T @ (weights[seen] * responses[seen]))

    whole = solve(np.arange(n_seen))
    np.testing.assert_allclose(attributions - correction.attributions, whole[:n_players], atol=1e-10)
    for left in (0, 17):
        without = solve(np.delete(np.arange(n_seen), left))
        predicted = np.concatenate([regressors[left], features[left]]) @ without
        np.testing.assert_allclose(correction.left_out[left], responses[left] - predicted, atol=1e-10)
        jackknifed = whole[:n_players] - correction.influences[left] * correction.left_out[left]
        np.testing.assert_allclose(without[:n_players], jackknifed, atol=1e-10)


def test_triples_are_learned() -> None:
    """Ten of a hundred and twenty triples pay; there are 16 pairs per player. The error was measured at 0.31."""
    game, true = triples_game(10)

    learned, plain = (error_of(game, true, pairs=160, triples=triples) for triples in (True, False))

    assert learned < 0.5 * plain


def test_what_cannot_be_learned_costs_next_to_nothing() -> None:
    """A game of pure noise: every coalition's value is a hash of its members."""

    def evaluate(rows: Any) -> Any:
        digests = [hashlib.sha256(row.astype(np.int8).tobytes()).digest()[:4] for row in rows]
        noise = np.array([int.from_bytes(digest, "big") / 2**32 for digest in digests])
        return (rows.sum(axis=1) + noise)[:, np.newaxis]

    game = zero_one_game(evaluate, 10)
    true = (shapley_matrix(10) @ evaluate(all_coalitions(10)))[:, 0]

    learned, plain = (error_of(game, true, pairs=80, triples=triples) for triples in (True, False))

    assert learned < 1.1 * plain


@pytest.mark.parametrize("pairs", [4, 16])
def test_intervals_with_learned_triples_cover_the_true_values_of_all_players_together(pairs: int) -> None:
    game, true = triples_game(12)

    estimates = [kernel_of(game, pairs=pairs * 12, seed=seed) for seed in range(60)]

    errors = np.array([estimate.attributions[:, 0] - true for estimate in estimates])
    half_widths = np.array([estimate.half_widths[:, 0] for estimate in estimates])
    claimed = np.array([estimate.standard_errors[:, 0] for estimate in estimates])
    assert 0.92 <= (np.abs(errors) <= half_widths).mean() <= 0.99
    assert 0.88 <= np.sqrt((claimed**2).mean() / (errors**2).mean()) <= 1.3


def test_attributions_add_up_when_triples_were_learned() -> None:
    game, _ = triples_game(12)

    estimate = kernel_of(game, pairs=100)

    assert (np.abs(estimate.efficiency_residuals) <= 1e-9 * estimate.scales).all()


def test_attributions_are_those_of_exact_once_every_coalition_was_seen() -> None:
    game, true = triples_game(8)

    estimate = kernel_of(game, pairs=2**7 - 1)

    assert "exact" == estimate.stop_reason
    np.testing.assert_allclose(estimate.attributions[:, 0], true, atol=1e-9)
    np.testing.assert_array_equal(estimate.standard_errors, np.zeros((8, 1)))


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_proxy import kernel_of, triples_game\n"
        "estimate = kernel_of(triples_game(12)[0], pairs=100)\n"
        "print(estimate.attributions.tobytes().hex(), estimate.standard_errors.tobytes().hex())\n"
    )

    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads in ("1", "4")
    }

    assert 1 == len(printed)


def triples_game(n_players: int) -> tuple[Game, Any]:
    """Slopes of different sizes, and as many triples as players that pay once all three are in; and the truth."""
    rng = np.random.default_rng(5)
    slopes = rng.normal(size=n_players)
    triples = np.array([rng.choice(n_players, 3, replace=False) for _ in range(n_players)])
    coefficients = rng.normal(size=n_players)

    def evaluate(rows: Any) -> Any:
        together = rows[:, triples].prod(axis=2).astype(np.float64)
        return np.einsum("nd,d->n", rows, slopes)[:, np.newaxis] + np.einsum("nt,t->n", together, coefficients)[:, None]

    true = slopes.copy()
    np.add.at(true, triples.reshape(-1), np.repeat(coefficients / 3, 3))
    return zero_one_game(evaluate, n_players), true


def zero_one_game(evaluate: Evaluate, n_players: int) -> Game:
    background = Background.of(np.zeros((1, n_players), np.float32), evaluate)
    return Game(evaluate, np.ones(n_players, np.float32), background, feature_players(n_players))


def kernel_of(game: Game, *, pairs: int, seed: int = 0, triples: bool = True) -> Estimate:
    return kernel(game, [0], seed=seed, limits=Limits(0, 2 * pairs), slice_rows=4096, triples=triples)


def error_of(game: Game, true: Any, *, pairs: int, triples: bool) -> float:
    """The root mean square error over seeds."""
    estimates = [kernel_of(game, pairs=pairs, seed=seed, triples=triples).attributions[:, 0] for seed in range(12)]
    return float(np.sqrt(np.mean((np.array(estimates) - true) ** 2)))
