"""One compute process from its start to its end: its socket, and a thread for each direction."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

from service.processes import end_child, start_child

logger = logging.getLogger("vitrine.compute")

_QUIET_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class Life:
    """A running compute process.

    Orders go through a queue to a thread of their own, so that giving one never waits, whatever the process does:
    a stopped process that reads nothing must not stop the event loop.

    Args:
        module: that the process runs.
        heard: called with this life and `(number, status, result)` for each message, from the reading thread.
        ended: called with this life, once, when the process has closed its end.

    Raises:
        OSError: when a process cannot be started.
    """

    def __init__(
        self,
        module: str,
        log: Path | None,
        heard: Callable[[Life, int, str, Any], None],
        ended: Callable[[Life], None],
    ) -> None:
        self._heard, self._ended = heard, ended
        self._outbox: queue.SimpleQueue[tuple[int, str, dict[str, Any]] | None] = queue.SimpleQueue()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = start_child(
                    module,
                    [str(theirs.fileno())],
                    environment=_QUIET_ENVIRONMENT,
                    log=log,
                    pass_fds=[theirs.fileno()],
                )
            except BaseException:
                ours.close()
                raise
        self._connection = Connection(ours.detach())
        self.started = self.last_heard = monotonic()
        self.ready = False
        self.unloads = 0

    def begin(self) -> None:
        for target, name in ((self._read, "compute-answers"), (self._write, "compute-orders")):
            threading.Thread(target=target, name=name, daemon=True).start()

    def send(self, number: int, kind: str, payload: dict[str, Any]) -> None:
        self._outbox.put((number, kind, payload))

    def kill(self) -> None:
        """Ends a process that no longer answers; `ended` follows."""
        self.process.kill()

    def end(self, *, seconds: float) -> int:
        """Asks the process to end, kills it after some seconds, and returns its exit status."""
        end_child(self.process, seconds=seconds)
        self._outbox.put(None)
        return self.process.returncode

    def _read(self) -> None:
        try:
            while True:
                message = self._connection.recv()
                self.last_heard = monotonic()
                self._heard(self, *message)
        except (EOFError, OSError):
            logger.info("compute process %d has closed its end", self.process.pid)
        except Exception:
            logger.exception("compute process %d has sent what cannot be read", self.process.pid)
        self._ended(self)

    def _write(self) -> None:
        try:
            while (message := self._outbox.get()) is not None:
                self._connection.send(message)
        except OSError:
            logger.info("compute process %d takes no more orders", self.process.pid)
