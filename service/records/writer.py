"""Writes records from one thread: those that wait together share a commit, and no failure reaches a request."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Event, Thread

from service.records.attempts import attempt
from service.records.record import ExplanationRecord

logger = logging.getLogger("vitrine.records")

QUEUE_BYTES = 64 * 2**20
GROUP_BYTES = 8 * 2**20
GROUP_RECORDS = 256
RETRY_SECONDS = 1.0

Waiting = tuple[ExplanationRecord, Future[bool]]


class RecordWriter:
    """One background thread that commits records in the order they came.

    A record's future is True once its group is committed. When a group cannot be written, `problem` says why, its
    futures and those of all that follow are False at once, and the group is tried again every second until it can be:
    then `problem` is None again, and nothing that fitted in the queue was lost.

    Args:
        insert: commits some records, or raises.
    """

    def __init__(self, insert: Callable[[Sequence[ExplanationRecord]], None]) -> None:
        self._insert = insert
        self._changed = Condition()
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._closing = Event()
        self._unpromised = 0
        self._thread = Thread(target=self._run, name="records", daemon=True)
        self.problem: str | None = None

    def start(self) -> None:
        self._thread.start()

    def close(self, *, seconds: float) -> None:
        """Writes what waits and ends, unless that takes longer."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(seconds)

    def submit(self, record: ExplanationRecord) -> Future[bool]:
        """Queues a record. Its future tells whether it was kept."""
        kept: Future[bool] = Future()
        kept.set_running_or_notify_cancel()  # a request that goes away does not take its record along
        with self._changed:
            fits = not self._waiting or self._waiting_bytes + record.n_bytes <= QUEUE_BYTES
            if fits:
                self._waiting.append((record, kept))
                self._waiting_bytes += record.n_bytes
                self._changed.notify()
            if self.problem is not None or not fits:
                self._unpromised += 1
                kept.set_result(False)
                if self.problem is None:
                    self._fail("more explanations wait to be written than the queue holds")
        return kept

    def give_up(self, kept: Future[bool], seconds: float) -> bool:
        """For a request that has waited as long as it may: whether its record was kept by now."""
        with self._changed:
            if not kept.done():
                self._fail(f"the database has not answered within {seconds:g} s")
                self._unpromised += 1
                kept.set_result(False)
        return kept.result()

    def _run(self) -> None:
        while group := self._next_group():
            while not self._settle(group):
                if self._closing.wait(RETRY_SECONDS):
                    logger.error("ends with explanations that could not be recorded: %s", self.problem)
                    return

    def _next_group(self) -> list[Waiting]:
        """What waits now, up to the size of a group; empty when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            group: list[Waiting] = []
            n_bytes = 0
            while self._waiting and len(group) < GROUP_RECORDS and n_bytes < GROUP_BYTES:
                waiting = self._waiting.popleft()
                group.append(waiting)
                n_bytes += waiting[0].n_bytes
            self._waiting_bytes -= n_bytes
            return group

    def _settle(self, group: Sequence[Waiting]) -> bool:
        """Tries to write a group; False when it should be tried again."""
        outcome, reason = attempt(self._insert, [record for record, _ in group], "explanations")
        if outcome != "written":
            with self._changed:
                self._fail(reason)
                self._answer([*group, *self._waiting], kept=False)
            return outcome == "refused"
        with self._changed:
            if self.problem is not None:
                logger.info("explanations are recorded again; %d were answered without it", self._unpromised)
            self.problem, self._unpromised = None, 0
            self._answer(group, kept=True)
        return True

    def _fail(self, reason: str) -> None:
        if self.problem is None:
            logger.error("explanations are answered but not recorded: %s", reason)
        self.problem = reason

    def _answer(self, group: Sequence[Waiting], *, kept: bool) -> None:
        for _, future in group:
            if not future.done():
                self._unpromised += not kept
                future.set_result(kept)
