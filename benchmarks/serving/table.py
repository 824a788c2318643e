"""The table: our server, bare routes and peers, in rounds, one row and 32 rows a request, over HTTP and gRPC."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.serving.cells import (
    CONNECTIONS,
    MANY_ROWS_CONNECTIONS,
    RPC_CONNECTIONS,
    Cell,
    Measured,
    Results,
    cells_of,
    measure_together,
    rpc_cells,
)
from benchmarks.serving.running import Running, running
from benchmarks.serving.servers import ALONE, MANY_ROWS, OURS, TOGETHER, Maker, Server, first_requests
from benchmarks.serving.subjects import Subject
from benchmarks.tables import markdown_table

BAR = 0.6
BAR_CELL = Cell("digits", "json", 1, 32)
FLOOR = "Starlette, bare"
RPC_CELL = Cell("digits", "grpc", 1, 32)
RPC_FLOOR = "gRPC, bare"


def measure_table(
    subjects: Mapping[str, Subject], names: Sequence[str], folder: Path, *, rounds: int, seconds: int
) -> tuple[Results, list[Server]]:
    """Measures servers by name, in rounds.

    In each round the bare routes and ours are started together and take each cell in turn; then each peer is started
    alone. Every server is started anew in every round. One that cannot be started is reported, and left out.
    """
    results = Results()
    servers: dict[str, Server] = {}
    groups: list[dict[str, Maker]] = [{name: make for name, make in TOGETHER.items() if name in names}]
    groups += [{name: make} for name, make in ALONE.items() if name in names]
    for turn in range(rounds):
        for group in filter(None, groups):
            _say(f"round {turn + 1} of {rounds}: {', '.join(group)}")
            made = _make(group, subjects, folder / f"{turn}", results)
            servers |= {server.name: server for server in made}
            _measure_group(made, subjects, folder, seconds, results)
    return results, list(servers.values())


def _make(group: Mapping[str, Maker], subjects: Mapping[str, Subject], folder: Path, results: Results) -> list[Server]:
    folder.mkdir(exist_ok=True)
    made = []
    for name, make in group.items():
        try:
            made.append(make(subjects, folder))
        except FileNotFoundError as missing:
            results.absent[name] = str(missing)
    return made


def _measure_group(
    servers: Sequence[Server], subjects: Mapping[str, Subject], folder: Path, seconds: int, results: Results
) -> None:
    with ExitStack() as stack:
        started: list[Running] = []
        for server in servers:
            log = folder / f"{server.name.replace(' ', '-')}.log"
            try:
                started.append(stack.enter_context(running(server, first_requests(server, subjects), log)))
                results.idle_cores[server.name] = started[-1].settle()
            except (RuntimeError, TimeoutError) as failure:
                results.absent[server.name] = str(failure)
                continue
            results.starts.setdefault(server.name, []).append(started[-1].start_seconds)
            results.idle[server.name] = started[-1].memory()
        if started:
            measure_together(started, subjects, cells_of(list(subjects)), seconds, results)


def report(results: Results, servers: Sequence[Server], subjects: Mapping[str, Subject]) -> str:
    """The tables in markdown."""
    parts = []
    over_http = [server for server in servers if "json" in server.forms]
    over_grpc = [server for server in servers if "grpc" in server.forms]
    for subject in subjects:
        cells = [Cell(subject, "json", 1, connections) for connections in CONNECTIONS]
        columns = [f"{connections} conn." for connections in CONNECTIONS]
        parts.append(f"### {subject}, one row per request, requests per second")
        parts.append(_grid(results, over_http, cells, columns, _rate))
        parts.append(f"### {subject}, one row per request, p50 / p99 in ms")
        parts.append(_grid(results, over_http, cells, columns, _latencies))
    many = [Cell(name, kind, MANY_ROWS, MANY_ROWS_CONNECTIONS) for name in subjects for kind in ("json", "binary")]
    columns = [f"{cell.subject}, {cell.kind}" for cell in many]
    parts.append(f"### {MANY_ROWS} rows per request, {MANY_ROWS_CONNECTIONS} connections: requests/s, p50 / p99 in ms")
    parts.append(_grid(results, over_http, many, columns, _rate_and_latencies))
    columns = [f"1 row, {count} conn." for count in RPC_CONNECTIONS]
    columns.append(f"{MANY_ROWS} rows, {MANY_ROWS_CONNECTIONS} conn.")
    for subject in subjects:
        parts.append(f"### {subject} over gRPC (V2, raw contents): calls/s, p50 / p99 in ms")
        parts.append(_grid(results, over_grpc, rpc_cells(subject), columns, _rate_and_latencies))
    parts.append("### Start, memory, processor time")
    parts.append(_processes(results, servers))
    parts.append(verdict(results))
    parts.append(rpc_verdict(results))
    failed = [
        f"- {name}, {cell.subject}, {cell.kind}, {cell.n_rows} rows, {cell.connections} connections: {reason}"
        for (name, cell), reason in results.refusals.items()
    ]
    absent = [f"- {name} could not be measured: {reason}" for name, reason in results.absent.items()]
    return "\n\n".join([*parts, *(["\n".join([*failed, *absent])] if failed or absent else [])])


def verdict(results: Results) -> str:
    """Ours beside the bare Starlette route, and whether it is as fast as it should be."""
    ours, floor = results.median(OURS, BAR_CELL), results.median(FLOOR, BAR_CELL)
    if ours is None or floor is None:
        return "Ours beside the bare Starlette route: not measured."
    ratio = ours.load.requests_per_second / floor.load.requests_per_second
    return (
        f"{BAR_CELL.subject}, {BAR_CELL.connections} connections: ours answers {ratio:.0%} of what the bare Starlette "
        f"route does; the bar is {BAR:.0%}: {'pass' if ratio >= BAR else 'FAIL'}."
    )


def rpc_verdict(results: Results) -> str:
    """Ours over gRPC beside the bare handler, and beside ours over HTTP. There is no bar."""
    ours, floor = results.median(OURS, RPC_CELL), results.median(RPC_FLOOR, RPC_CELL)
    over_http = results.median(OURS, BAR_CELL)
    if ours is None or floor is None or over_http is None:
        return "Ours beside the bare gRPC handler: not measured."
    rate = ours.load.requests_per_second
    return (
        f"{RPC_CELL.subject} over gRPC, {RPC_CELL.connections} connections: ours answers "
        f"{rate / floor.load.requests_per_second:.0%} of what the bare handler does, and "
        f"{rate / over_http.load.requests_per_second:.0%} of what it answers over HTTP."
    )


def _grid(
    results: Results,
    servers: Sequence[Server],
    cells: Sequence[Cell],
    columns: Sequence[str],
    shown: Callable[[Measured], str],
) -> str:
    rows = []
    for server in servers:
        row = [server.name]
        for cell in cells:
            measured = results.median(server.name, cell)
            refused = "refused" if (server.name, cell) in results.refusals else ""
            row.append(shown(measured) if measured else refused)
        rows.append(row)
    return markdown_table(["server", *columns], rows)


def _rate(measured: Measured) -> str:
    return f"{measured.load.requests_per_second:,.0f}"


def _rate_and_latencies(measured: Measured) -> str:
    return f"{_rate(measured)}, {_latencies(measured)}"


def _latencies(measured: Measured) -> str:
    return f"{measured.load.p50_ms:.2f} / {measured.load.p99_ms:.2f}"


def _processes(results: Results, servers: Sequence[Server]) -> str:
    header = ["server", "version", "way", "start, s", "processes", "RSS idle, MiB", "RSS after, MiB", "PSS after, MiB",
              "first process, MiB", "idle, cores", "CPU per request, us", "CPU per call of gRPC, us"]  # fmt: skip
    rows = []
    for server in servers:
        request, call = (results.median(server.name, cell) for cell in (BAR_CELL, RPC_CELL))
        idle, after = results.idle.get(server.name), results.loaded.get(server.name)
        starts = results.starts.get(server.name)
        rows.append(
            [
                server.name,
                server.version,
                server.documented,
                f"{statistics.median(starts):.1f}" if starts else "",
                str(after.processes) if after else "",
                _mib(idle.resident_mib if idle else None),
                _mib(after.resident_mib if after else None),
                _mib(after.proportional_mib if after else None),
                _mib(after.front_mib if after else None),
                f"{results.idle_cores[server.name]:.2f}" if server.name in results.idle_cores else "",
                f"{request.cpu_us:,.0f}" if request else "",
                f"{call.cpu_us:,.0f}" if call else "",
            ]
        )
    return markdown_table(header, rows)


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text} ...\n")
    sys.stderr.flush()
