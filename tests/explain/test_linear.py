"""Linear algebra in a fixed order: against NumPy's."""

import numpy as np
import pytest

from explain.linear import inverse, tridiagonal


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_inverse_is_that_of_numpy(size: int) -> None:
    matrix = positive_definite(size)

    np.testing.assert_allclose(inverse(matrix), np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_tridiagonal_form_keeps_eigenvalues_and_what_solves_of_turned_columns_give(size: int) -> None:
    matrix = positive_definite(size)
    columns = np.random.default_rng(1).normal(size=(size, 2))

    diagonal, beside, turned = tridiagonal(matrix, columns)

    form = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    np.testing.assert_allclose(np.linalg.eigvalsh(form), np.linalg.eigvalsh(matrix), rtol=1e-9)
    np.testing.assert_allclose(
        turned.T @ np.linalg.solve(form, turned), columns.T @ np.linalg.solve(matrix, columns), rtol=1e-9
    )


def test_tridiagonal_form_of_what_is_tridiagonal_already_is_itself() -> None:
    matrix = np.diag([1.0, 2.0, 3.0, 4.0])

    diagonal, beside, _ = tridiagonal(matrix, np.ones((4, 1)))

    np.testing.assert_array_equal(diagonal, [1, 2, 3, 4])
    np.testing.assert_array_equal(beside, [0, 0, 0])


def positive_definite(size: int) -> np.ndarray:
    factor = np.random.default_rng(0).normal(size=(size, size + 3))
    return factor @ factor.T
