"""What calls of a version's networks cost, learned while they serve: `call_ms` each, `row_ms` for each row.

Prices decide which method `auto` takes and where an explanation runs, never what a method computes.
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.auto import Price
from explain.game import Rows
from explain.paths import Gradient
from models.rows import ModelInput
from service.serving.engine import SLICE_ROWS, Engine, Warmth

MEMORY = 0.95
"""What an earlier call counts for, as a part of the one after it: about the last twenty calls matter."""
FIRST_WEIGHT, LASTING_WEIGHT = 5.0, 0.02
"""What the measurements at the start count for, in calls: at first, and when they are long past."""
BOUND = 4.0
"""A call that took more than so many times what was expected, or less, counts as so many times: the machine had
other things to do, or a clock jumped."""


class LearnedPrice:
    """A line through what calls took, time = row_ms x rows + call_ms, that follows the latest ones.

    Relative errors are least squared, since a call of one row and one of thousands differ a thousandfold. The two
    measurements at the start stay, weakly: without them, calls all of one size would leave the line undetermined.

    Args:
        single_ms, many_ms: measured, a call of one row and of `n_rows` rows.
        slice_rows: of the largest calls there are; default: `n_rows`.
    """

    def __init__(self, single_ms: float, many_ms: float, n_rows: int, *, slice_rows: int | None = None) -> None:
        self._lock = threading.Lock()
        self._slice_rows = slice_rows or n_rows
        self._anchors = _moments(1, single_ms) + (_moments(n_rows, many_ms) if n_rows > 1 else 0.0)
        self._learned = self._anchors * FIRST_WEIGHT
        self.now = self._solved(self._anchors)

    @classmethod
    def of(cls, warmth: Warmth) -> LearnedPrice:
        """Of an engine that is called in slices."""
        return cls(warmth.single_ms, warmth.many_ms, warmth.n_rows, slice_rows=SLICE_ROWS)

    def learn(self, n_rows: int, milliseconds: float) -> None:
        """Takes note of a call."""
        expected = self.now.of(n_rows)
        bounded = min(max(milliseconds, expected / BOUND), expected * BOUND)
        with self._lock:
            self._learned = MEMORY * self._learned + _moments(n_rows, bounded)
            self.now = self._solved(LASTING_WEIGHT * self._anchors + self._learned)

    def _solved(self, moments: NDArray[np.float64]) -> Price:
        rows_squared, rows, ones, rows_over, ones_over = moments.tolist()
        determinant = rows_squared * ones - rows * rows
        row_ms = (ones * rows_over - rows * ones_over) / determinant if determinant > 0 else 0.0
        call_ms = (rows_squared * ones_over - rows * rows_over) / determinant if determinant > 0 else 0.0
        if call_ms < 0 or determinant <= 0:
            row_ms, call_ms = rows_over / rows_squared, 0.0
        elif row_ms < 0:
            row_ms, call_ms = 0.0, ones_over / ones
        return Price(row_ms, call_ms, self._slice_rows)


def _moments(n_rows: int, milliseconds: float) -> NDArray[np.float64]:
    """What a call adds to the normal equations of (row_ms n + call_ms) / t = 1."""
    rows, one = n_rows / milliseconds, 1 / milliseconds
    return np.array([rows * rows, rows * one, one * one, rows, one])


class MeteredEngine:
    """An engine whose price learns from every call."""

    def __init__(self, engine: Engine, price: LearnedPrice) -> None:
        self._engine, self._price = engine, price
        self.name = engine.name

    def evaluate(self, rows: ModelInput, output: str) -> np.ndarray:
        started = perf_counter()
        outputs = self._engine.evaluate(rows, output)
        self._price.learn(len(rows), max((perf_counter() - started) * 1000, 1e-6))
        return outputs


class MeteredGradient:
    """A compiled gradient whose price learns from every call."""

    def __init__(self, gradient: Gradient, price: LearnedPrice) -> None:
        self._gradient, self._price = gradient, price
        self.slice_rows = gradient.slice_rows
        self.targets_together = getattr(gradient, "targets_together", 1)

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.floating[Any]]:
        started = perf_counter()
        slopes = self._gradient(rows, targets)
        self._price.learn(targets.size, max((perf_counter() - started) * 1000, 1e-6))
        return slopes
