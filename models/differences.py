"""How far an engine's values are from another's, and the rows on which they are compared."""

from __future__ import annotations

import numpy as np

from models.rows import ModelInput

TOLERANCE = 1e-5
"""The largest difference between the engines that is accepted, as a part of each output's spread."""

ROUNDING = 2
"""Units in the last place by which two float32 values may differ and still be called equal: where an output hardly
varies, its spread is smaller than what float32 can tell apart, and says nothing."""


def hybrid_rows(rows: ModelInput, background: ModelInput, n_rows: int, seed: int) -> ModelInput:
    """Rows as explanations make them: random elements of a row, the others from a background row."""
    rng = np.random.default_rng(seed)
    chosen = rows[rng.integers(len(rows), size=n_rows)]
    reference = background[rng.integers(len(background), size=n_rows)]
    return np.where(rng.random(chosen.shape) < rng.random((n_rows, *[1] * (chosen.ndim - 1))), chosen, reference)


def largest_difference(exported: np.ndarray, expected: np.ndarray, over: np.ndarray) -> float:
    """The largest difference of any column, as a part of that column's spread.

    Args:
        exported, expected: `(n_rows, n_columns)`.
        over: `(n_background, n_columns)`, the values whose standard deviation is the spread.

    Returns:
        0 where all values are equal up to `ROUNDING` units in the last place, so that a constant output agrees;
        infinity where a value is a number in one and none in the other, or a constant output differs by more. Two NaN
        are equal, and two infinities of one sign: then the engines agree, whatever that says of the network.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        differences = np.abs(exported.astype(np.float64) - expected)
        differences[(exported == expected) | (np.isnan(exported) & np.isnan(expected))] = 0.0
        differences[np.isnan(differences)] = np.inf
        # Of float32, whatever these arrays hold: that is what the engines compute in.
        differences[differences <= ROUNDING * np.abs(np.spacing(expected.astype(np.float32)))] = 0.0
        spread = np.where(np.isfinite(over), over, np.nan).astype(np.float64)
        spread = np.nan_to_num(np.nanstd(spread, axis=0)) if np.isfinite(over).any() else np.zeros(over.shape[1])
        parts = np.where(differences == 0.0, 0.0, differences / spread)
    return float(parts.max(initial=0.0))
