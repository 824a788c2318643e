"""Linear algebra in a fixed order: against NumPy's."""

import numpy as np
import pytest

from explain.linear import cholesky, solve_lower


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_factors_are_those_of_numpy(size: int) -> None:
    matrices = np.stack([positive_definite(size), 2 * positive_definite(size) + np.eye(size)])

    np.testing.assert_allclose(cholesky(matrices), np.linalg.cholesky(matrices), rtol=1e-9, atol=1e-12)


def test_factor_of_a_singular_matrix_is_finite() -> None:
    factor = cholesky(np.ones((1, 3, 3)))

    assert np.isfinite(factor).all()
    np.testing.assert_allclose(factor[0] @ factor[0].T, np.ones((3, 3)), atol=1e-7)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_triangular_systems_are_solved(size: int) -> None:
    factor = np.linalg.cholesky(positive_definite(size))
    right = np.random.default_rng(1).normal(size=(size, 2))

    np.testing.assert_allclose(factor @ solve_lower(factor, right), right, atol=1e-9)


def positive_definite(size: int) -> np.ndarray:
    factor = np.random.default_rng(0).normal(size=(size, size + 3))
    return factor @ factor.T
