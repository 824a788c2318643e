"""Agreement of two explanations, and halves of a background."""

import math

import numpy as np
import pytest
from small_models import rows_of

from explain.fidelity.agreement import agreement, centred_ranks, halves, rank_correlation
from explain.game import Background


def test_an_explanation_agrees_with_itself() -> None:
    values = np.array([3.0, -2.0, 1.0, 0.5])

    found = agreement(values, values, top=2)

    assert (1, 1, 1, 1) == (found.features, found.ranks, found.signs, found.signed_ranks)
    assert found.correlation == pytest.approx(1)


def test_each_figure_by_hand() -> None:
    left = np.array([5.0, -4.0, 3.0, 2.0, 0.1])
    right = np.array([5.0, 4.0, 0.2, 6.0, 0.1])

    found = agreement(left, right, top=3)

    # The top three are 0, 1, 2 and 3, 0, 1: two are shared, one of them with its sign, none at its place.
    assert (2 / 3, 0, 1 / 3, 0) == (found.features, found.ranks, found.signs, found.signed_ranks)
    # Ranks 4, 0, 3, 2, 1 and 3, 2, 1, 4, 0: 1 - 6 (1 + 4 + 4 + 4 + 1) / (5 * 24)
    assert found.correlation == pytest.approx(0.3)


def test_flipping_signs_keeps_players_and_loses_signs() -> None:
    values = np.array([3.0, -2.0, 1.0])

    found = agreement(values, -values)

    assert (1, 1, 0, 0) == (found.features, found.ranks, found.signs, found.signed_ranks)
    assert found.correlation == pytest.approx(-1)


def test_rank_correlation_is_that_of_scipy_with_ties() -> None:
    from scipy.stats import rankdata, spearmanr

    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 4, (2, 30)).astype(float)

    assert rank_correlation(left, right) == pytest.approx(spearmanr(left, right).statistic)
    np.testing.assert_allclose(centred_ranks(left), rankdata(left) - 15.5)


def test_a_constant_explanation_has_no_rank_correlation() -> None:
    assert math.isnan(rank_correlation(np.zeros(3), np.arange(3.0)))


def test_halves_are_disjoint_and_whole() -> None:
    rows = rows_of(9, 2, 0)
    weights = np.arange(1, 10) / 45
    background = Background(rows, weights, rows.astype(np.float64))

    first, second = halves(background, seed=0)

    assert (4, 5) == (len(first.rows), len(second.rows))
    found = {tuple(row) for half in (first, second) for row in half.rows.tolist()}
    assert {tuple(row) for row in rows.tolist()} == found
    for half in (first, second):
        assert half.weights.sum() == pytest.approx(1)
        np.testing.assert_array_equal(half.outputs, half.rows)
