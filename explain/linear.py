"""Linear algebra in a fixed order of operations: unlike that of BLAS and LAPACK, its bits depend on no threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def inverse(matrix: Matrix) -> Matrix:
    """The inverse of a positive definite matrix by sweeping (Goodnight 1979)."""
    swept = matrix.copy()
    for pivot in range(len(swept)):
        diagonal = swept[pivot, pivot]
        line = swept[pivot] / diagonal
        column = swept[:, pivot].copy()
        swept -= column[:, np.newaxis] * line
        swept[pivot] = line
        swept[:, pivot] = -column / diagonal
        swept[pivot, pivot] = 1 / diagonal
    return swept


def tridiagonal(matrix: Matrix, columns: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64], Matrix]:
    """Turns a symmetric matrix into a tridiagonal one by reflections (Householder 1958).

    Args:
        matrix: `(n, n)`.
        columns: `(n, k)`, turned along.

    Returns:
        The diagonal `(n,)` and the off-diagonal `(n - 1,)` of Q'AQ, and Q' columns, `(n, k)`.
    """
    turned, along = matrix.copy(), columns.copy()
    for step in range(len(turned) - 2):
        rest = slice(step + 1, None)
        normal = turned[rest, step].copy()
        length = np.copysign(np.sqrt(np.einsum("i,i->", normal, normal)), normal[0])
        normal[0] += length
        square = np.einsum("i,i->", normal, normal)
        if square == 0:
            continue
        # H A H = A - n w' - w n', with H = 1 - 2 n n' / n'n and w = 2 A n / n'n - 2 (n'A n) n / (n'n)^2
        image = 2 / square * np.einsum("ij,j->i", turned[rest, rest], normal)
        image -= np.einsum("i,i->", normal, image) / square * normal
        turned[rest, rest] -= normal[:, np.newaxis] * image + image[:, np.newaxis] * normal
        turned[step + 1, step] = -length
        along[rest] -= 2 / square * normal[:, np.newaxis] * np.einsum("i,ik->k", normal, along[rest])
    return np.diagonal(turned).copy(), np.diagonal(turned, -1).copy(), along
