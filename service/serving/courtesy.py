"""Who goes first in the compute process: predictions before explanations, and dropped orders not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.game import Rows
from explain.gradients import KerasGradient
from models.rows import ModelInput
from service.serving.engine import Engine

LONGEST_PAUSE_SECONDS = 0.1
"""An explanation goes on with its next slice after this long, so that it ends under unbroken predictions too."""


class OrderDropped(Exception):
    """The order being worked on is no longer wanted."""


class Courtesy:
    """Knows which orders are in the house, which of them are predictions, and which nobody wants any more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present: dict[int, bool] = {}
        self._predictions = 0
        self._dropped: set[int] = set()
        self._thread = threading.local()

    def arrived(self, number: int, *, is_prediction: bool) -> None:
        with self._changed:
            self._present[number] = is_prediction
            self._predictions += is_prediction

    def deferred(self, number: int) -> None:
        """It waits for its version to be loaded: nothing need give way to it meanwhile."""
        with self._changed:
            self._predictions -= self._present.get(number, False)
            self._present[number] = False
            self._changed.notify_all()

    def left(self, number: int) -> None:
        with self._changed:
            self._predictions -= self._present.pop(number, False)
            self._dropped.discard(number)
            self._changed.notify_all()

    def drop(self, number: int) -> None:
        with self._changed:
            if number in self._present:
                self._dropped.add(number)

    def is_dropped(self, number: int) -> bool:
        return number in self._dropped

    @contextmanager
    def working_on(self, number: int) -> Iterator[None]:
        """What this thread does until the end of the block is for this order."""
        self._thread.number = number
        try:
            yield
        finally:
            self._thread.number = None

    def give_way(self) -> None:
        """Called before each slice of an explanation: waits while predictions wait.

        Raises:
            OrderDropped: when nobody wants the explanation any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._predictions == 0, LONGEST_PAUSE_SECONDS)
            if getattr(self._thread, "number", None) in self._dropped:
                raise OrderDropped


class PoliteEngine:
    """An engine that gives way before each call."""

    def __init__(self, engine: Engine, courtesy: Courtesy) -> None:
        self._engine, self._courtesy = engine, courtesy
        self.name = engine.name

    def evaluate(self, rows: ModelInput, output: str) -> np.ndarray:
        self._courtesy.give_way()
        return self._engine.evaluate(rows, output)


class PoliteGradient:
    """A compiled gradient that gives way before each call."""

    def __init__(self, gradient: KerasGradient, courtesy: Courtesy) -> None:
        self._gradient, self._courtesy = gradient, courtesy
        self.slice_rows, self.targets_together = gradient.slice_rows, gradient.targets_together

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.floating[Any]]:
        self._courtesy.give_way()
        return self._gradient(rows, targets)
