"""The API process's side of the compute process: orders out, answers back, a new process when one dies."""

from __future__ import annotations

import itertools
import logging
import socket
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

from service.errors import ComputeUnavailable
from service.logs import current_context
from service.processes import end_child, start_child
from service.serving.explaining import LoadReport

logger = logging.getLogger("vitrine.compute")

MAX_ATTEMPTS = 2
_QUIET_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@dataclass(slots=True)
class _Order:
    kind: str
    payload: dict[str, Any]
    future: Future[Any] = field(default_factory=Future)
    attempts: int = 1


class ComputeClient:
    """Starts the compute process, sends it orders and restarts it when it dies.

    Orders that a dead process left are tried once more in the next one; then they fail with `ComputeUnavailable`.
    Versions that were loaded are loaded again.
    """

    def __init__(self, log: Path | None) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._orders: dict[int, _Order] = {}
        self._loads: dict[str, _Order] = {}
        self._closed = False
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    def start(self) -> None:
        threading.Thread(target=self._run, name="compute-client", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            end_child(process, seconds=2)

    def waiting(self) -> list[str]:
        """The kinds of the orders that have no answer yet."""
        with self._lock:
            return [order.kind for order in self._orders.values()]

    @property
    def pid(self) -> int | None:
        """The process id, for those who watch it."""
        return self._process.pid if self._process else None

    def load(self, key: str, directory: Path) -> Future[LoadReport]:
        """Loads a version; its `LoadReport` comes when it is compiled and warm."""
        order = _Order("load", {"key": key, "directory": str(directory)})
        with self._lock:
            self._loads[key] = order
            self._give(order)
        return order.future

    def loading(self, key: str) -> Future[LoadReport]:
        """The latest load of a version: another one when the process had to be started anew."""
        return self._loads[key].future

    def unload(self, key: str) -> None:
        with self._lock:
            self._loads.pop(key, None)
            if self._connection is not None:
                self._send(-1, _Order("unload", {"key": key}))

    def submit(self, kind: str, **payload: Any) -> Future[Any]:
        """Sends an order; orders given before the process is up wait for it."""
        order = _Order(kind, {**payload, "context": current_context()})
        with self._lock:
            self._give(order)
        return order.future

    def _give(self, order: _Order) -> None:
        number = next(self._numbers)
        self._orders[number] = order
        self._send(number, order)

    def _send(self, number: int, order: _Order) -> None:
        if self._connection is None:
            return
        try:
            self._connection.send((number, order.kind, order.payload))
        except OSError:
            # It has just died: the reading thread notices and sends the order to the next process.
            logger.info("order %d waits for the next compute process", number)

    def _run(self) -> None:
        while not self._closed:
            started = monotonic()
            connection = self._start_process()
            try:
                while True:
                    self._settle(*connection.recv())
            except (EOFError, OSError):
                logger.info("the compute process has closed its end")
            except Exception:
                logger.exception("the compute process has sent what cannot be read")
            connection.close()
            if self._closed:
                return
            self._after_death()
            if monotonic() - started < 5:
                # It dies as it starts: do not turn that into a loop that takes a core.
                threading.Event().wait(2)

    def _start_process(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            process = start_child(
                "service.serving.compute_process",
                [str(theirs.fileno())],
                environment=_QUIET_ENVIRONMENT,
                log=self._log,
                pass_fds=[theirs.fileno()],
            )
        connection = Connection(ours.detach())
        with self._lock:
            self._process, self._connection = process, connection
            waiting = {order.payload["key"] for order in self._orders.values() if order.kind == "load"}
            for key, order in list(self._loads.items()):
                if key not in waiting:
                    self._loads[key] = self._orders[next(self._numbers)] = _Order("load", order.payload)
            for number, order in sorted(self._orders.items(), key=lambda item: (item[1].kind != "load", item[0])):
                self._send(number, order)
        return connection

    def _after_death(self) -> None:
        with self._lock:
            process, self._process, self._connection = self._process, None, None
            self.restarts += 1
            lost = []
            for number, order in list(self._orders.items()):
                order.attempts += 1
                if order.attempts > MAX_ATTEMPTS:
                    lost.append(self._orders.pop(number))
        if process is not None:
            end_child(process, seconds=1)
            logger.warning("the compute process ended with status %s; starting another", process.returncode)
        for order in lost:
            _fail(order.future, ComputeUnavailable())

    def _settle(self, number: int, succeeded: bool, result: Any) -> None:
        with self._lock:
            order = self._orders.pop(number, None)
        if order is None:
            return
        if not succeeded:
            kind, message, attributes = result
            error = kind.__new__(kind)
            error.__dict__.update(attributes)
            error.args = (message,)
            _fail(order.future, error)
        elif order.future.set_running_or_notify_cancel():
            order.future.set_result(result)


def _fail(future: Future[Any], error: Exception) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)
