"""An open-loop load: requests are due at times drawn beforehand, whether or not earlier ones have been answered.

The latency of a request counts from when it was due, so that a server that stalls is charged for all that was due
meanwhile (Tene, "How NOT to Measure Latency": coordinated omission).
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from benchmarks.serving.load import WrongAnswers

MAX_CONNECTIONS = 256
DRAIN_SECONDS = 10
IDLE_SECONDS = 2.0
"""A connection that was idle for longer is not used again: servers close such, ours and uvicorn's after 5 s."""

_RECEIVED_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Latencies from when requests were due, and how late the generator itself sent them, in milliseconds."""

    latencies_ms: np.ndarray
    late_ms: np.ndarray

    def percentile(self, q: float) -> float:
        """Of the latencies, in milliseconds."""
        return float(np.percentile(self.latencies_ms, q))

    def late_percentile(self, q: float) -> float:
        """Of how late the generator was, in milliseconds: what the server cannot be blamed for."""
        return float(np.percentile(self.late_ms, q))


def due_times(per_second: float, seconds: float, seed: int) -> np.ndarray:
    """Seconds from the start at which requests are due: a Poisson process of a given rate."""
    gaps = np.random.default_rng(seed).exponential(1 / per_second, size=round(per_second * seconds))
    return np.cumsum(gaps)


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    request: int | None = None
    used_at: float = 0.0
    """0 until it has answered."""


class _Generator:
    """Sends what is due over connections that are free, and opens another one where none is."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes], due: np.ndarray) -> None:
        self._address, self._requests, self._due = address, requests, due
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._free: list[_Connection] = []
        self._waiting: deque[int] = deque()
        self._sent = np.full(len(due), np.nan)
        self._answered = np.full(len(due), np.nan)
        self._n_answered = 0

    def run(self) -> OpenLoop:
        began = perf_counter()
        following, n_due = 0, len(self._due)
        while self._n_answered < n_due:
            now = perf_counter() - began
            while following < n_due and self._due[following] <= now:
                self._waiting.append(following)
                following += 1
            while self._waiting and (connection := self._take()) is not None:
                self._send(connection, self._waiting.popleft(), began)
            pause = self._due[following] - (perf_counter() - began) if following < n_due else DRAIN_SECONDS
            # epoll's own timeout counts milliseconds; select's, microseconds.
            ready, _, _ = select.select([self._poll.fileno()], [], [], max(0.0, pause))
            if ready:
                for descriptor, _ in self._poll.poll(0):
                    self._receive(self._connections[descriptor], began)
            elif following == n_due:
                raise WrongAnswers(f"{n_due - self._n_answered} requests were not answered in {DRAIN_SECONDS} s.")
        return OpenLoop((self._answered - self._due) * 1000, (self._sent - self._due) * 1000)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.socket.close()
        self._poll.close()

    def _take(self) -> _Connection | None:
        if self._free:
            # the one that was used last; when that was long ago, it was so for all of them
            if perf_counter() - self._free[-1].used_at <= IDLE_SECONDS:
                return self._free.pop()
            for connection in list(self._free):
                self._drop(connection)
        if len(self._connections) >= MAX_CONNECTIONS:
            return None
        opened = socket.create_connection(self._address, timeout=DRAIN_SECONDS)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._connections[opened.fileno()] = _Connection(opened)
        self._poll.register(opened.fileno(), select.EPOLLIN)
        return connection

    def _send(self, connection: _Connection, place: int, began: float) -> None:
        connection.request = place
        try:
            connection.socket.sendall(self._requests[place % len(self._requests)])
        except ConnectionError:
            self._has_closed(connection)
            return
        self._sent[place] = perf_counter() - began

    def _receive(self, connection: _Connection, began: float) -> None:
        try:
            arrived = connection.socket.recv(_RECEIVED_BYTES)
        except ConnectionError:
            arrived = b""
        if not arrived:
            self._has_closed(connection)
            return
        if connection.request is None:
            raise WrongAnswers("the server answered twice.")
        connection.received += arrived
        if _is_whole(connection.received):
            self._answered[connection.request] = perf_counter() - began
            self._n_answered += 1
            connection.received.clear()
            connection.request, connection.used_at = None, perf_counter()
            self._free.append(connection)

    def _has_closed(self, connection: _Connection) -> None:
        """The server has closed a connection. Where it had been idle, a request may have met that on its way, and is
        sent again, as every client that keeps connections does (RFC 9112, section 9.3.1); its time goes on.

        Raises:
            WrongAnswers: when the server owed an answer.
        """
        if connection.request is not None:
            if connection.received or not connection.used_at:
                raise WrongAnswers("the server closed a connection on which it owed an answer.")
            self._waiting.appendleft(connection.request)
        self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection in self._free:
            self._free.remove(connection)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()


def _is_whole(answer: bytearray) -> bool:
    """Whether an answer has arrived wholly. Raises `WrongAnswers` where it is not a 200, or says no length."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    lines = head.split(b"\r\n")
    if lines[0].split(b" ")[1] != b"200":
        raise WrongAnswers(f"{bytes(lines[0])!r}: {bytes(body[:120])!r}")
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    raise WrongAnswers("an answer without Content-Length, which this generator does not read.")


def open_loop(url: str, requests: Sequence[bytes], *, per_second: float, seconds: float, seed: int = 0) -> OpenLoop:
    """Sends requests at a given mean rate for so many seconds, over up to 256 connections.

    Args:
        requests: the raw bytes of each, sent in turn.

    Raises:
        WrongAnswers: for any answer but a 200, or none.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    generator = _Generator((host, int(port)), requests, due_times(per_second, seconds, seed))
    try:
        return generator.run()
    finally:
        generator.close()
