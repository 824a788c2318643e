"""What the attributions of many rows say together."""

from __future__ import annotations

import numpy as np
import pytest

from explain.summary import dependence, importance


def test_importance_is_the_mean_magnitude_with_student_s_interval() -> None:
    attributions = np.array([[1.0, 0.0], [-3.0, 0.0], [2.0, 0.0]])
    errors = np.array([[0.3, 0.0], [0.0, 0.0], [0.4, 0.0]])

    found = importance(attributions, errors)

    assert [0.0, 0.0] == pytest.approx(found.means.tolist())
    assert [2.0, 0.0] == pytest.approx(found.magnitudes.tolist())
    # Magnitudes 1, 3, 2 have a deviation of 1; t with 2 degrees of freedom is 4.303.
    assert [4.302653 / np.sqrt(3), 0.0] == pytest.approx(found.half_widths.tolist())
    assert [0.5 / 3, 0.0] == pytest.approx(found.errors.tolist())


def test_a_weight_counts_as_so_many_rows() -> None:
    attributions = np.array([[1.0], [5.0]])

    weighted = importance(attributions, np.zeros((2, 1)), np.array([3.0, 1.0]))
    repeated = importance(attributions[[0, 0, 0, 1]], np.zeros((4, 1)))

    assert repeated.magnitudes == pytest.approx(weighted.magnitudes)
    assert repeated.means == pytest.approx(weighted.means)


def test_one_row_has_no_interval_and_unstated_errors_stay_unstated() -> None:
    found = importance(np.array([[2.0]]), np.array([[np.nan]]))

    assert [2.0] == found.magnitudes.tolist()
    assert np.isnan(found.half_widths).all()
    assert np.isnan(found.errors).all()


def test_intervals_cover_the_mean_of_all_rows_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    truth = np.sqrt(2 / np.pi)  # the mean of |z| for a standard normal z
    covered = 0
    for _ in range(2000):
        found = importance(rng.normal(size=(50, 1)), np.zeros((50, 1)))
        covered += abs(found.magnitudes[0] - truth) <= found.half_widths[0]

    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_dependence_groups_rows_by_value_and_never_parts_equal_ones() -> None:
    values = np.array([3.0, 1.0, 1.0, 1.0, 2.0, 5.0, 4.0, 6.0])

    found = dependence(values, 10 * values, n_groups=4)

    assert [4, 2, 2] == found.counts.tolist()
    assert [1.0, 3.0, 5.0] == found.lows.tolist()
    assert [2.0, 4.0, 6.0] == found.highs.tolist()
    assert [12.5, 35.0, 55.0] == found.means.tolist()


def test_dependence_of_a_line_is_the_line() -> None:
    values = np.linspace(-1, 1, 200)

    found = dependence(values, 3 * values + 1)

    assert 10 == len(found.counts)
    np.testing.assert_allclose(found.means, 3 * (found.lows + found.highs) / 2 + 1)


def test_dependence_of_a_constant_feature_is_one_group() -> None:
    found = dependence(np.ones(5), np.arange(5.0))

    assert [5] == found.counts.tolist()
    assert (1.0, 1.0, 2.0) == (found.lows[0], found.highs[0], found.means[0])
