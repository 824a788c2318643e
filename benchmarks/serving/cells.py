"""What is measured of a server: its cells, each some connections that send requests of some form, round after round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.serving.forms import requests_of
from benchmarks.serving.load import Load, WrongAnswers, load
from benchmarks.serving.rpc import V2Rpc, load_calls
from benchmarks.serving.running import Memory, Running, check_answers, check_calls
from benchmarks.serving.servers import MANY_ROWS, Server
from benchmarks.serving.subjects import Subject

CONNECTIONS = (1, 8, 32, 128)
MANY_ROWS_CONNECTIONS = 32
RPC_CONNECTIONS = (1, 8, 32)
DIFFERENT_REQUESTS = 64
WARM_UP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One load: requests of a kind of body, with so many rows, over so many connections."""

    subject: str
    kind: str
    n_rows: int
    connections: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A cell in one round, and the processor time of the server for one request, in microseconds."""

    load: Load
    cpu_us: float


@dataclass(slots=True)
class Results:
    """Everything that was measured, by server and cell; a refusal takes the place of figures."""

    cells: dict[tuple[str, Cell], list[Measured]] = field(default_factory=dict)
    refusals: dict[tuple[str, Cell], str] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[str, Memory] = field(default_factory=dict)
    idle_cores: dict[str, float] = field(default_factory=dict)
    loaded: dict[str, Memory] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def median(self, server: str, cell: Cell) -> Measured | None:
        """Each figure's median over the rounds; None where the cell was refused or not measured."""
        found = self.cells.get((server, cell))
        if not found or (server, cell) in self.refusals:
            return None
        rates = [each.load.requests_per_second for each in found]
        return Measured(
            # requests for one second: the median of the rates, not of the counts
            Load(
                requests=round(statistics.median(rates)),
                seconds=1.0,
                p50_ms=statistics.median(each.load.p50_ms for each in found),
                p99_ms=statistics.median(each.load.p99_ms for each in found),
            ),
            statistics.median(each.cpu_us for each in found),
        )


def cells_of(subjects: Sequence[str]) -> list[Cell]:
    """Those of the table, in the order in which they are measured."""
    single = [Cell(name, "json", 1, connections) for name in subjects for connections in CONNECTIONS]
    many = [Cell(name, kind, MANY_ROWS, MANY_ROWS_CONNECTIONS) for name in subjects for kind in ("json", "binary")]
    return [*single, *many, *(cell for name in subjects for cell in rpc_cells(name))]


def rpc_cells(subject: str) -> list[Cell]:
    """Those of gRPC: one row, and last many."""
    single = [Cell(subject, "grpc", 1, connections) for connections in RPC_CONNECTIONS]
    return [*single, Cell(subject, "grpc", MANY_ROWS, MANY_ROWS_CONNECTIONS)]


def measure_together(
    servers: Sequence[Running], subjects: Mapping[str, Subject], cells: Sequence[Cell], seconds: int, results: Results
) -> None:
    """One round of servers that run at the same time: each cell of all of them, before the next cell.

    The answers of a server are compared with those of ONNX Runtime before and after a cell is timed.
    """
    for place, cell in enumerate(cells):
        # who goes first changes, so that nobody is always measured on a warmer or a colder machine
        for running in [*servers[place % len(servers) :], *servers[: place % len(servers)]]:
            key = (running.server.name, cell)
            if cell.kind not in running.server.forms or key in results.refusals:
                continue
            try:
                results.cells.setdefault(key, []).append(_measure(running, subjects[cell.subject], cell, seconds))
            except WrongAnswers as refusal:
                results.refusals[key] = str(refusal)
    for running in servers:
        results.loaded[running.server.name] = running.memory()


def _measure(running: Running, subject: Subject, cell: Cell, seconds: int) -> Measured:
    check, send = _ways(running.server, subject, cell)
    check()
    send(seconds=WARM_UP_SECONDS)
    before = running.cpu_seconds()
    measured = send(seconds=seconds)
    taken = running.cpu_seconds() - before
    check()
    return Measured(measured, taken / measured.requests * 1e6)


def _ways(server: Server, subject: Subject, cell: Cell) -> tuple[Callable[[], None], Callable[..., Load]]:
    """How the answers of a server are checked for a cell, and how it is loaded."""
    form = server.forms[cell.kind]
    if isinstance(form, V2Rpc):
        call = form.ask(subject, subject.rows[np.arange(cell.n_rows) % len(subject.rows)])
        send = partial(load_calls, call, connections=cell.connections)
        return partial(check_calls, form, subject, cell.n_rows), send
    requests = requests_of(form, subject, cell.n_rows, DIFFERENT_REQUESTS)
    send = partial(load, server.url, requests, connections=cell.connections)
    if server.predicts:
        return partial(check_answers, server.url, form, subject, cell.n_rows), send
    return lambda: None, send
