"""Joins rows that wait for the same version into one call of its engine.

A short call for the only request there is is made at once. Else nothing waits while the engine is idle: what arrives
in one turn of the event loop goes together, at the end of that turn. While a call is running, what arrives waits for
its end and goes together then. So batches form under load alone, and grow with it.

A row's output depends on no other row of its call. Where it depends, in the last bits, on how many rows a call has
(`batch_invariant` is false in the card), calls can be padded to one size.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.rows import ModelInput
from service.errors import TooManyRowsWaiting

CALL_MS = 5.0
"""What a call should take at most: rows that arrive meanwhile wait for as long."""
ALONE_MS = 1.0
"""A call priced below this is made at once for the only request there is."""
INLINE_MS = 0.05
"""Calls priced below this run on the event loop: a thread's hand-over costs more than they do. While one runs in a
thread more rows arrive, so that the next one is larger, and a row of it cheaper."""
PADDED_ROWS = 32
"""Rows of each call where calls are padded."""
MOST_ROWS = 4096
"""Rows of a call, however cheap: more at once are slower, row by row."""


class Price(Protocol):
    """What a call costs: `call_ms`, and `row_ms` for each row."""

    @property
    def call_ms(self) -> float: ...
    @property
    def row_ms(self) -> float: ...


def _nothing(_engine: str, _rows: int) -> None: ...


def _in_company() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Batching:
    """How every version's rows are joined.

    Attributes:
        max_waiting_rows: of one version; above it requests are refused at once.
        pad: whether calls have `PADDED_ROWS` rows each.
        note: is told of each call of an engine: its name, and how many rows it had.
        is_alone: whether a request that is being answered is the only one, so that none could join it.
    """

    max_waiting_rows: int = 16384
    pad: bool = False
    note: Callable[[str, int], None] = _nothing
    is_alone: Callable[[], bool] = _in_company


@dataclass(eq=False, slots=True)
class _Waiting:
    rows: ModelInput
    output: str
    answer: asyncio.Future[np.ndarray]


class Batcher:
    """Of one version. Used from the event loop's thread alone, but for being made.

    Args:
        engine: its name.
        at_once: evaluates `(n_rows, *input_shape)` of one output in the thread that calls; None where that cannot be.
        aside: the same without holding up the event loop.
        lanes: calls of `aside` that may run beside each other.
        price: of a call, as measured; None where it is not known, and then nothing runs in this thread.
    """

    def __init__(
        self,
        engine: str,
        at_once: Callable[[ModelInput, str], np.ndarray] | None,
        aside: Callable[[ModelInput, str], Awaitable[np.ndarray]],
        *,
        lanes: int,
        price: Price | None,
        batching: Batching,
    ) -> None:
        self._engine, self._at_once, self._aside, self._free_lanes = engine, at_once, aside, lanes
        self._batching = batching
        self.most_rows, self._inline_rows, self._alone_rows = PADDED_ROWS, 0, 0
        if price is not None:
            row_ms = max(price.row_ms, 1e-9)
            if not batching.pad:
                self.most_rows = int(min(max((CALL_MS - price.call_ms) / row_ms, 1), MOST_ROWS))
            if at_once is not None:
                self._inline_rows = int(max((INLINE_MS - price.call_ms) / row_ms, 0))
                self._alone_rows = min(int(max((ALONE_MS - price.call_ms) / row_ms, 0)), self.most_rows)
        self._queue: deque[_Waiting] = deque()
        self._is_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting_rows = 0
        """Of accepted requests, those that no call has taken yet."""

    def answers_at_once(self, n_rows: int) -> bool:
        """Whether so many rows are evaluated in this turn of the event loop."""
        return not self._tasks and (self._fits_inline(n_rows) or self._is_alone(n_rows))

    def _is_alone(self, n_rows: int) -> bool:
        """Whether so many rows are evaluated now: no others wait, run, or could come."""
        fits = self._calls_rows(n_rows) <= self._alone_rows
        return fits and not self._queue and not self._tasks and self._batching.is_alone()

    async def evaluate(self, rows: ModelInput, output: str) -> np.ndarray:
        """Outputs `(n_rows, n_targets)`. Rows that are too many for a call go in several, one after the other, so that
        others pass in between.

        Raises:
            TooManyRowsWaiting: at once, when the queue is full.
        """
        if self._at_once is not None and self._is_alone(len(rows)):
            outputs = self._at_once(rows if not self._batching.pad else _padded(rows), output)
            self._batching.note(self._engine, self._calls_rows(len(rows)))
            return outputs[: len(rows)]
        if self.waiting_rows and self.waiting_rows + len(rows) > self._batching.max_waiting_rows:
            raise TooManyRowsWaiting(self.waiting_rows)
        # All of them, those of later calls too: a request is refused before any of it is computed, or not at all.
        self.waiting_rows += len(rows)
        if len(rows) <= self.most_rows:
            return await self._joined(rows, output)
        parts, later = list[np.ndarray](), len(rows)
        try:
            for start in range(0, len(rows), self.most_rows):
                part = rows[start : start + self.most_rows]
                later -= len(part)
                parts.append(await self._joined(part, output))
        finally:
            self.waiting_rows -= later
        return np.concatenate(parts)

    async def _joined(self, rows: ModelInput, output: str) -> np.ndarray:
        """Of rows that are counted already, and no more than a call takes."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(rows, output, loop.create_future())
        self._queue.append(waiting)
        if not self._is_scheduled and self._free_lanes:
            self._is_scheduled = True
            loop.call_soon(self._begin)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            # Its client is gone, or its time is up: its place is free.
            if waiting in self._queue:
                self._queue.remove(waiting)
                self.waiting_rows -= len(rows)
            raise

    def _begin(self) -> None:
        """Starts what can be started now."""
        self._is_scheduled = False
        while self._queue and self._free_lanes:
            batch = self._taken()
            n_rows = sum(len(waiting.rows) for waiting in batch)
            if self._at_once is not None and self._fits_inline(n_rows):
                self._settle(batch, self._at_once)
                if self._queue and not self._is_scheduled:
                    # Others on the event loop first.
                    self._is_scheduled = True
                    asyncio.get_running_loop().call_soon(self._begin)
                return
            self._free_lanes -= 1
            task = asyncio.create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free_lanes += 1
        if not self._is_scheduled:
            self._begin()

    def _taken(self) -> list[_Waiting]:
        """The next of those that wait, for one call: as many as fit, of one output."""
        batch, n_rows = [self._queue.popleft()], 0
        n_rows = len(batch[0].rows)
        while self._queue and self._queue[0].output == batch[0].output:
            if n_rows + len(self._queue[0].rows) > self.most_rows:
                break
            batch.append(self._queue.popleft())
            n_rows += len(batch[-1].rows)
        self.waiting_rows -= n_rows
        return batch

    def _settle(self, batch: list[_Waiting], evaluate: Callable[[ModelInput, str], np.ndarray]) -> None:
        rows = self._call_rows(batch)
        try:
            outputs = evaluate(rows, batch[0].output)
        except Exception as error:
            # Whatever an engine raises belongs to the request that met it: joined, each is tried alone.
            if len(batch) > 1:
                for waiting in batch:
                    self._settle([waiting], evaluate)
            else:
                _fail(batch[0], error)
            return
        self._answer(batch, len(rows), outputs)

    async def _run(self, batch: list[_Waiting]) -> None:
        rows = self._call_rows(batch)
        try:
            outputs = await self._aside(rows, batch[0].output)
        except Exception as error:
            if len(batch) > 1:
                for waiting in batch:
                    if not waiting.answer.done():  # its client may have gone meanwhile
                        await self._run([waiting])
            else:
                _fail(batch[0], error)
            return
        self._answer(batch, len(rows), outputs)

    def _call_rows(self, batch: list[_Waiting]) -> ModelInput:
        rows = batch[0].rows if len(batch) == 1 else np.concatenate([waiting.rows for waiting in batch])
        return _padded(rows) if self._batching.pad else rows

    def _answer(self, batch: list[_Waiting], n_rows: int, outputs: np.ndarray) -> None:
        self._batching.note(self._engine, n_rows)
        start = 0
        for waiting in batch:
            end = start + len(waiting.rows)
            if not waiting.answer.done():
                waiting.answer.set_result(outputs[start:end])
            start = end

    def _calls_rows(self, n_rows: int) -> int:
        """Rows of a call for so many."""
        return max(n_rows, PADDED_ROWS) if self._batching.pad else n_rows

    def _fits_inline(self, n_rows: int) -> bool:
        return self._calls_rows(n_rows) <= self._inline_rows


def _padded(rows: ModelInput) -> ModelInput:
    """At most `PADDED_ROWS` rows, filled up with copies of the last one."""
    if len(rows) >= PADDED_ROWS:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], PADDED_ROWS - len(rows), axis=0)])


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
