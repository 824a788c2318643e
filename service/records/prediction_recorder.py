"""Records predictions without making them wait: noted on the request's way, written in batches by a thread.

A prediction is answered whether its record is kept or not. What the database does costs memory up to a bound, then
records, which are counted; never an answer. A process that is killed takes along what was noted since its last batch:
the newest records, `LOST_SECONDS` of them at most where the database keeps up, and never a part of one.
"""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event, Thread

from models.rows import ModelInput
from service.logs import current_request_id
from service.records.attempts import attempt
from service.records.predictions import PredictionNote

logger = logging.getLogger("vitrine.records")

BATCH_SECONDS = 0.2
"""How long a prediction waits until its batch is begun."""
LOST_SECONDS = 1.0
"""What a killed process can lose, where the database is well: answers that were younger. A batch waits for
`BATCH_SECONDS` and is committed in a few milliseconds; the rest is for a machine that is busy."""
BATCH_RECORDS = 256
BATCH_BYTES = 4 * 2**20
QUEUE_BYTES = 32 * 2**20
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 5.0
"""How long what waits may take to be written when the server ends."""
_NOTE_BYTES = 500
"""What a note takes in memory beside its bodies."""
_HASHES = 2**32


class PredictionRecorder:
    """Notes predictions on the event loop's thread, and writes them on one of its own.

    Args:
        insert: commits the records of some notes, or raises.
        rate: the part of predictions that is recorded, from 0 to 1.
        queue_bytes: bodies that may wait to be written.
    """

    def __init__(
        self, insert: Callable[[Sequence[PredictionNote]], None], *, rate: float, queue_bytes: int = QUEUE_BYTES
    ) -> None:
        self._insert, self._queue_bytes = insert, queue_bytes
        self._below = round(rate * _HASHES)
        # Plain tuples: the garbage collector does not look through those that hold no more than these.
        self._queue: deque[tuple[str, str, int, bytes | ModelInput, bytes, int]] = deque()
        # Each is written by one thread alone, so that neither needs a lock: what waits is their difference.
        self._noted_bytes = self._settled_bytes = 0
        self._noted = self._settled = 0
        self._overflowed = self._lost = 0
        self._closing = Event()
        self._thread = Thread(target=self._run, name="prediction-records", daemon=True)
        self.written = 0
        self.problem: str | None = None

    @property
    def waiting(self) -> int:
        """Records that wait to be written."""
        return max(self._noted - self._settled, 0)

    @property
    def dropped(self) -> int:
        """Records that were to be kept and are not: the queue was full, or no database took them."""
        return self._overflowed + self._lost

    def note(self, prediction: str, model: str, version: int, sent: bytes | ModelInput, answer: bytes) -> None:
        """Takes note of an answer on its way out. Only for the event loop's thread; waits for nothing.

        Which predictions are taken depends on the request's id alone, so that every replica takes the same ones: its
        `X-Request-Id` where it brought one, else the prediction's own.
        """
        below = self._below
        if below < _HASHES and (below == 0 or zlib.crc32((current_request_id() or prediction).encode()) >= below):
            return
        n_bytes = (len(sent) if isinstance(sent, bytes) else sent.nbytes) + len(answer) + _NOTE_BYTES
        if self._noted_bytes - self._settled_bytes + n_bytes > self._queue_bytes:
            self._overflowed += 1
            return
        # First into the queue, and then counted: what the other thread counts on is there.
        self._queue.append((prediction, model, version, sent, answer, n_bytes))
        self._noted_bytes += n_bytes
        self._noted += 1

    def start(self) -> None:
        """Begins to write, where anything is recorded."""
        if self._below:
            self._thread.start()

    def close(self, *, seconds: float) -> None:
        """Writes what waits and ends, unless that takes longer or cannot be done. No note may come after."""
        self._closing.set()
        if self._below:
            self._thread.join(seconds)
        if self.waiting:
            logger.error("%d predictions were not recorded: %s", self.waiting, self.problem or "the time was up")

    def _run(self) -> None:
        seen = 0
        while True:
            closing = self._closing.wait(BATCH_SECONDS)
            # What is noted meanwhile waits for the next time.
            noted = self._noted
            while self._settled < noted:
                if not self._write(self._next_batch()):
                    return
            overflowed, seen = self._overflowed - seen, self._overflowed
            self._say("more predictions wait to be written than the queue holds" if overflowed else None)
            if closing:
                return

    def _next_batch(self) -> tuple[list[PredictionNote], int]:
        """The oldest notes, up to the size of a batch, and what they take in the queue."""
        batch, batch_bytes = list[PredictionNote](), 0
        while self._queue and len(batch) < BATCH_RECORDS and batch_bytes < BATCH_BYTES:
            prediction, model, version, sent, answer, n_bytes = self._queue.popleft()
            batch.append(PredictionNote(prediction, model, version, sent, answer))
            batch_bytes += n_bytes
        return batch, batch_bytes

    def _write(self, taken: tuple[list[PredictionNote], int]) -> bool:
        """Tries until a batch is written, or refused for good; False when this is to end before."""
        batch, batch_bytes = taken
        while True:
            outcome, reason = attempt(self._insert, batch, "predictions")
            if outcome != "later":
                break
            self._say(reason)
            if self._closing.wait(RETRY_SECONDS):
                return False
        if outcome == "written":
            self.written += len(batch)
            self._say(None)
        else:
            self._lost += len(batch)
            self._say(reason)
        self._settled_bytes += batch_bytes
        self._settled += len(batch)
        return True

    def _say(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            logger.error("predictions are answered but not recorded: %s", problem)
        elif problem is None and self.problem is not None:
            logger.info("predictions are recorded again; %d have been dropped so far", self.dropped)
        self.problem = problem


def in_words(rate: float) -> str:
    """Which predictions are recorded."""
    return "no" if rate == 0 else "all" if rate == 1 else f"{100 * rate:g} % of all"
