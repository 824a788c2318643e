"""Intervals and p-values against simulation and published formulas."""

import math

import numpy as np
import pytest

from explain.fidelity.evidence import bootstrap_interval, p_of_mean_at_least, p_of_share_at_least


def test_bootstrap_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)

    intervals = [bootstrap_interval(rng.normal(2, 1, 32), seed=seed) for seed in range(300)]

    assert 0.9 <= np.mean([low <= 2 <= high for low, high in intervals]) <= 0.98


def test_p_value_of_a_mean_is_that_of_students_t() -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(-0.5, 1, 12)

    assert p_of_mean_at_least(values, 0.2) == pytest.approx(ttest_1samp(values, 0.2, alternative="less").pvalue)


@pytest.mark.parametrize(
    ("values", "expected"), [([0.1], 1.0), ([0.1, 0.1], 0.0), ([0.3, 0.3], 1.0), ([math.nan, 0.3], 0.0)]
)
def test_one_row_is_no_evidence_and_equal_rows_or_none_are_certain(values: list[float], expected: float) -> None:
    assert expected == p_of_mean_at_least(np.array(values), 0.2)


def test_p_value_of_a_share_bounds_what_happens() -> None:
    rng = np.random.default_rng(0)
    shares = (rng.random((20_000, 16)) < 0.9).astype(float)

    p_values = np.array([p_of_share_at_least(row, 0.9) for row in shares])

    for level in (0.2, 0.05, 0.01):
        assert (p_values <= level).mean() <= level
    assert (p_values <= 0.2).any()


def test_p_value_of_a_share_by_hand() -> None:
    assert p_of_share_at_least(np.zeros(3), 0.9) == pytest.approx(0.001)
    assert p_of_share_at_least(np.array([0.5]), 0.9) == pytest.approx(math.exp(-0.5 * math.log(25 / 9)))
    assert 1 == p_of_share_at_least(np.array([0.95, 0.9]), 0.9)
