"""Max-sensitivity: how far an explanation moves when its row moves a little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from explain.game import Background, Rows

RADIUS = 0.05
"""How far each element moves at most, in its standard deviations over the background."""


def element_spreads(background: Background) -> NDArray[np.float64]:
    """`row_shape`: the weighted standard deviation of each element over the background rows that have it; 0 where none
    has."""
    rows = background.rows.astype(np.float64)
    there = ~np.isnan(rows)
    weights = background.weights.reshape(-1, *(1,) * (rows.ndim - 1)) * there
    shares = weights / np.maximum(weights.sum(axis=0), np.finfo(np.float64).tiny)
    known = np.where(there, rows, 0.0)
    mean = (shares * known).sum(axis=0)
    return np.sqrt((shares * (known - mean) ** 2).sum(axis=0))


def max_sensitivity(
    explain: Callable[[Rows], NDArray[np.float64]],
    row: Rows,
    attributions: NDArray[np.float64],
    spreads: NDArray[np.float64],
    *,
    n_perturbations: int,
    seed: int,
    radius: float = RADIUS,
) -> float:
    """Max-sensitivity (Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", definition 3.1).

    The largest distance between the attributions of the row and those of `n_perturbations` random rows near it, divided
    by the norm of the row's: 0 or more, 0 for an explainer that always says the same. A model that bends sharply makes
    it large, rightly; it says how steady an explanation is, not whether it is right. More perturbations never make it
    smaller.

    Args:
        explain: a row to its attributions `(n_players,)` of one target, with one seed.
        attributions: those of `row`.
        spreads: `row_shape`: an element moves uniformly within `radius` times its own.
    """
    rng = np.random.default_rng(seed)
    largest = 0.0
    for _ in range(n_perturbations):
        moved = (row + radius * spreads * rng.uniform(-1, 1, row.shape)).astype(row.dtype)
        largest = max(largest, float(np.linalg.norm(explain(moved) - attributions)))
    if largest == 0:
        return 0.0
    size = float(np.linalg.norm(attributions))
    return largest / size if size > 0 else float("inf")
