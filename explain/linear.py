"""Linear algebra in a fixed order of operations: unlike that of BLAS and LAPACK, its bits depend on no threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def cholesky(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower triangular factors of positive definite matrices, `(n_matrices, n, n)`, by columns."""
    factors = np.zeros_like(matrices)
    for column in range(matrices.shape[1]):
        known = np.einsum("hij,hj->hi", factors[:, column:, :column], factors[:, column, :column])
        left = matrices[:, column:, column] - known
        # Rounding may leave nothing of a pivot that is very small.
        pivots = np.maximum(left[:, :1], np.finfo(np.float64).eps * matrices[:, column, column, np.newaxis])
        factors[:, column:, column] = left / np.sqrt(pivots)
        factors[:, column, column] = np.sqrt(pivots[:, 0])
    return factors


def solve_lower(factor: Matrix, right: Matrix) -> Matrix:
    """What a lower triangular factor `(n, n)` turns into `right`, `(n, k)`."""
    solution = np.zeros_like(right)
    for row in range(len(factor)):
        known = np.einsum("i,ik->k", factor[row, :row], solution[:row])
        solution[row] = (right[row] - known) / factor[row, row]
    return solution
