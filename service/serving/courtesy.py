"""Who goes first in the compute process: predictions, then explanations, then jobs; dropped orders not at all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.game import Rows
from explain.paths import Gradient
from models.rows import ModelInput
from service.serving.engine import Engine


class Rank(IntEnum):
    """Who gives way to whom: each to those of a lower rank."""

    PREDICTION = 0
    EXPLANATION = 1
    JOB = 2
    WAITING = 3


LONGEST_PAUSE_SECONDS = {Rank.EXPLANATION: 0.1, Rank.JOB: 2.0}
"""The next slice goes on after this long, so that explanations end under unbroken predictions too, and jobs under
unbroken explanations."""


class OrderDropped(Exception):
    """The order being worked on is no longer wanted."""


class Courtesy:
    """Knows which orders are in the house, their ranks, and which of them nobody wants any more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present: dict[int, Rank] = {}
        self._of_rank: Counter[Rank] = Counter()
        self._dropped: set[int] = set()
        self._thread = threading.local()

    def arrived(self, number: int, rank: Rank) -> None:
        with self._changed:
            self._present[number] = rank
            self._of_rank[rank] += 1

    def deferred(self, number: int) -> None:
        """It waits for its version to be loaded: nothing need give way to it meanwhile."""
        with self._changed:
            if number in self._present:
                self._of_rank[self._present[number]] -= 1
                self._present[number] = Rank.WAITING
                self._of_rank[Rank.WAITING] += 1
            self._changed.notify_all()

    def left(self, number: int) -> None:
        with self._changed:
            if number in self._present:
                self._of_rank[self._present.pop(number)] -= 1
            self._dropped.discard(number)
            self._changed.notify_all()

    def drop(self, number: int) -> None:
        with self._changed:
            if number in self._present:
                self._dropped.add(number)
                self._changed.notify_all()

    def is_dropped(self, number: int) -> bool:
        return number in self._dropped

    @contextmanager
    def working_on(self, number: int, rank: Rank) -> Iterator[None]:
        """What this thread does until the end of the block is for this order."""
        self._thread.number, self._thread.rank, self._thread.waited = number, rank, 0.0
        try:
            yield
        finally:
            self._thread.number = None

    def waited_ms(self) -> float:
        """How long this thread has given way, over the order that it works on."""
        return getattr(self._thread, "waited", 0.0) * 1000

    def give_way(self) -> None:
        """Called before each slice of an explanation: waits while orders of lower ranks are there.

        Raises:
            OrderDropped: when nobody wants the explanation any more.
        """
        rank = getattr(self._thread, "rank", Rank.EXPLANATION)
        with self._changed:
            started = perf_counter()
            number = getattr(self._thread, "number", None)
            self._changed.wait_for(
                lambda: number in self._dropped or not any(self._of_rank[Rank(first)] for first in range(rank)),
                LONGEST_PAUSE_SECONDS.get(rank, 0.0),
            )
            self._thread.waited = getattr(self._thread, "waited", 0.0) + perf_counter() - started
            if number in self._dropped:
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

    def __init__(self, gradient: Gradient, courtesy: Courtesy) -> None:
        self._gradient, self._courtesy = gradient, courtesy
        self.slice_rows = gradient.slice_rows
        self.targets_together = getattr(gradient, "targets_together", 1)

    def __call__(self, rows: Rows, targets: NDArray[np.int32]) -> NDArray[np.floating[Any]]:
        self._courtesy.give_way()
        return self._gradient(rows, targets)
