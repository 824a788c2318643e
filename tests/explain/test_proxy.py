"""What `kernel` learns of triples of players: predictions of pairs by the others, honest errors, what it gains."""

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
from explain.proxy import Basis, Ridge, additive_fit, player_weights
from explain.regression import kernel
from explain.sampling import PairStream, SeenPairs

WEIGHTS = np.random.default_rng(0).uniform(0.1, 1, size=7)


def test_features_span_all_triples_weighted_by_their_players() -> None:
    seen = seen_of(7, 63)
    signs = np.where(seen.coalitions, 1.0, -1.0)

    basis = Basis.of_triples(seen, WEIGHTS)

    features = basis.features[:, 9:]
    expected = np.zeros((63, 63))
    for triple in itertools.combinations(range(7), 3):
        values = signs[:, triple].prod(axis=1)
        expected += WEIGHTS[list(triple)].prod() * np.outer(values, values)
    assert 35 == features.shape[1]
    np.testing.assert_allclose(features @ features.T, expected / (np.trace(expected) / 63), atol=1e-9)


def test_slopes_are_the_means_over_all_pairs_of_a_size() -> None:
    seen = seen_of(7, 63)
    basis = Basis.of_triples(seen, WEIGHTS)
    coefficients = np.random.default_rng(1).normal(size=(3, basis.features.shape[1]))
    # The sum of a player's coefficients is of no account: nobody's regressors have a sum.
    coefficients[:, :7] -= coefficients[:, :7].mean(axis=1, keepdims=True)

    slopes = basis.slopes(coefficients, seen)

    values = np.einsum("mk,mk->m", basis.features, coefficients[seen.strata])
    np.testing.assert_allclose(slopes, seen.means(seen.regressors * values[:, np.newaxis]), atol=1e-10)


def test_pairs_left_out_are_predicted_as_by_leaving_them_out() -> None:
    """The closed form, against solving the penalized regression again without the pair."""
    seen = seen_of(7, 40)
    responses = np.random.default_rng(1).normal(size=(40, 2))
    basis = Basis.of_triples(seen, WEIGHTS)
    n_features = basis.features.shape[1]
    spreads, penalty = np.linspace(0.5, 2, n_features), 0.3
    ridge = Ridge.of(basis, seen, responses, spreads[np.newaxis], np.array([penalty]))

    model = ridge.models(0, [1])[0]

    def solve(kept: Any) -> Any:
        design = basis.features[kept] / np.sqrt(ridge.noise[kept])[:, np.newaxis]
        normal = design.T @ design + np.diag(penalty / spreads**2)
        return np.linalg.solve(normal, design.T @ (responses[kept, 1] / np.sqrt(ridge.noise[kept])))

    without = np.array([solve(np.delete(np.arange(40), pair)) for pair in range(40)])
    np.testing.assert_allclose(
        model.left_out, responses[:, 1] - np.einsum("mk,mk->m", basis.features, without), atol=1e-9
    )
    by_stratum = seen.means(without)
    np.testing.assert_allclose(
        model.left, responses[:, 1] - np.einsum("mk,mk->m", basis.features, by_stratum[seen.strata]), atol=1e-9
    )
    np.testing.assert_allclose(model.slopes, basis.slopes(by_stratum, seen), atol=1e-9)
    np.testing.assert_allclose(ridge.coefficients(0)[:, 1], solve(np.arange(40)), atol=1e-9)


def test_penalty_is_that_of_greatest_likelihood() -> None:
    seen = seen_of(7, 40)
    rng = np.random.default_rng(1)
    basis = Basis.of_triples(seen, WEIGHTS)
    responses = rng.normal(size=(40, 3))
    responses[:, 0] += 3 * basis.features @ rng.normal(size=basis.features.shape[1])
    penalties = np.array([3.0, 0.3, 0.01])

    ridge = Ridge.of(basis, seen, responses, np.ones((3, basis.features.shape[1])), penalties)

    for target in range(3):
        covariances = [np.diag(ridge.noise) + basis.features @ basis.features.T / penalty for penalty in penalties]
        likelihoods = [
            40 * np.log(responses[:, target] @ np.linalg.solve(covariance, responses[:, target]))
            + np.linalg.slogdet(covariance)[1]
            for covariance in covariances
        ]
        np.testing.assert_allclose(
            ridge.lost[:, target] - ridge.lost[0, target], np.array(likelihoods) - likelihoods[0], atol=1e-8
        )


def test_additive_model_is_the_weighted_regression() -> None:
    seen = seen_of(7, 40)
    responses = np.random.default_rng(1).normal(size=(40, 1))

    coefficients = additive_fit(seen, responses).coefficients(0)

    weights = 1 / (seen.sizes * (7 - seen.sizes))[seen.strata]
    design = seen.regressors * np.sqrt(weights)[:, np.newaxis]
    expected = np.linalg.lstsq(design, responses * np.sqrt(weights)[:, np.newaxis], rcond=None)[0]
    np.testing.assert_allclose(coefficients, expected, atol=1e-6)


def test_weights_of_players_follow_their_parts_in_all_outputs() -> None:
    attributions = np.array([[3.0, 0.0, 0.0], [-4.0, 2.0, 0.0], [0.0, 0.0, 0.0]])

    weights = player_weights(attributions)

    expected = np.array([np.sqrt(0.6**2 / 2), np.sqrt((0.8**2 + 1) / 2), 0])
    np.testing.assert_allclose(weights, expected / expected[1] + 1e-3)
    assert player_weights(np.zeros((3, 2))) is None


def test_triples_are_learned() -> None:
    """Ten of a hundred and twenty triples pay. A regression on players alone was off by 0.048, this by 0.030."""
    game, true = triples_game(10)

    assert error_of(game, true, pairs=160) < 0.036


def test_game_that_the_model_holds_is_explained_without_error() -> None:
    """A hundred and twenty triples and ten players, from half of all pairs."""
    game, true = triples_game(10)

    estimate = kernel_of(game, pairs=256)

    assert "budget" == estimate.stop_reason
    np.testing.assert_allclose(estimate.attributions[:, 0], true, atol=1e-5)
    assert estimate.half_widths.max() < 1e-5


def test_what_cannot_be_learned_costs_next_to_nothing() -> None:
    """Pure noise: every coalition's value is a hash of its members. No estimate from m of N pairs can do much better
    than the noise itself, sqrt(1/12 / 2) a pair, over the root of the pairs less the unknowns.
    """

    def evaluate(rows: Any) -> Any:
        digests = [hashlib.sha256(row.astype(np.int8).tobytes()).digest()[:4] for row in rows]
        noise = np.array([int.from_bytes(digest, "big") / 2**32 for digest in digests])
        return (rows.sum(axis=1) + noise)[:, np.newaxis]

    game = zero_one_game(evaluate, 10)
    true = (shapley_matrix(10) @ evaluate(all_coalitions(10)))[:, 0]

    made = error_of(game, true, pairs=80)

    regression = 2 * np.sqrt(1 / 24) / np.sqrt(80 - 9)
    assert made < 1.3 * regression


@pytest.mark.parametrize("pairs", [4, 8])
def test_intervals_cover_the_true_values_of_each_player_though_triples_were_learned(pairs: int) -> None:
    game, true = triples_game(14)

    estimates = [kernel_of(game, pairs=pairs * 14, seed=seed) for seed in range(80)]

    errors = np.array([estimate.attributions[:, 0] - true for estimate in estimates])
    half_widths = np.array([estimate.half_widths[:, 0] for estimate in estimates])
    claimed = np.array([estimate.standard_errors[:, 0] for estimate in estimates])
    covered = np.abs(errors) <= half_widths
    assert 0.92 <= covered.mean() <= 0.985
    assert covered.mean(axis=0).min() >= 0.85
    assert 0.85 <= np.sqrt((claimed**2).mean() / (errors**2).mean()) <= 1.2
    made = errors.std(axis=0)
    assert (np.abs(errors.mean(axis=0)) <= 4 * made / np.sqrt(len(estimates))).all()


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


def seen_of(n_players: int, n_pairs: int) -> SeenPairs:
    pairs = PairStream(n_players, seed=0)
    coalitions, strata = pairs.take(n_pairs)
    return pairs.seen(coalitions, strata)


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


def kernel_of(game: Game, *, pairs: int, seed: int = 0) -> Estimate:
    return kernel(game, [0], seed=seed, limits=Limits(0, 2 * pairs), slice_rows=4096)


def error_of(game: Game, true: Any, *, pairs: int) -> float:
    """The root mean square error over seeds."""
    estimates = [kernel_of(game, pairs=pairs, seed=seed).attributions[:, 0] for seed in range(12)]
    return float(np.sqrt(np.mean((np.array(estimates) - true) ** 2)))
