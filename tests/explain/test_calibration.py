"""Whether stated errors are the errors made, on few rows; `benchmarks/calibration.py` measures many."""

import pytest

from benchmarks.calibration import ESTIMATORS, FAMILIES, Family, measure

SMALL = FAMILIES[0]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_stated_errors_are_near_the_errors_made(name: str) -> None:
    results = list(measure(name, ESTIMATORS[name], SMALL, n_rows=5, n_seeds=8))

    sampled = [result for result in results if result.exact_part < 1]
    assert sampled
    for result in sampled:
        assert 0.88 <= result.coverage <= 1, result
        assert 0.75 <= result.ratio <= 1.35, result


@pytest.mark.soak
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_stated_errors_are_the_errors_made(name: str, family: Family) -> None:
    for result in measure(name, ESTIMATORS[name], family, n_rows=50, n_seeds=40):
        assert result.passed, result
