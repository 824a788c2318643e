"""What each route costs a client on the same machine, one request at a time, and what memory the server takes.

`python -m benchmarks.latency` starts `vitrine up --demo` under a temporary folder (`--home`: another one, which is
kept), `--url` takes a server that runs already. Beside each call, in turn, the same bytes are asked of a bare Starlette
route in a process of its own: what is left of the time when a server has nothing to do.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from time import monotonic, perf_counter
from typing import Any

import httpx
import numpy as np

from benchmarks.memory import listening_process, process_tree
from benchmarks.tables import describe_machine, markdown_table
from models.datasets import load_builtin
from models.demos import DEMO_SPECS

REQUESTS = 200
SLOW_REQUESTS = 30
WARM_UP_REQUESTS = 5
REQUEST_TIMEOUT_SECONDS = 60
DEMO_SECONDS = 600
FLOOR_SECONDS = 30
STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is measured."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    requests: int = REQUESTS

    def send(self, client: httpx.Client) -> httpx.Response:
        """Sends it once. Raises `httpx.HTTPStatusError` for any answer but a success: an error is no measurement."""
        return client.request(self.method, self.path, json=self.body, headers=self.headers).raise_for_status()


@dataclass(frozen=True, slots=True)
class Latency:
    """Times in milliseconds of one call, and of a bare route that answers the same bytes."""

    call: Call
    answer_bytes: int
    times_ms: tuple[float, ...]
    bare_times_ms: tuple[float, ...]


def demo_calls() -> Iterator[Call]:
    """Every measured route; a model's row is the first of its data set."""
    bodies = {name: {"model": name, "inputs": [_first_row(spec)]} for name, spec in DEMO_SPECS.items()}
    for name, body in bodies.items():
        yield Call(f"POST /predict {name}", "POST", "/predict", body)
    for name, body in bodies.items():
        yield Call(f"POST /explain {name}", "POST", "/explain", body, requests=SLOW_REQUESTS)
    for name, body in bodies.items():
        headers = {"Accept": "image/png"}
        yield Call(f"POST /explain {name}, PNG", "POST", "/explain", body, headers, SLOW_REQUESTS)
    for path in ("/models", "/models/digits/versions/champion", "/train", "/health/ready", "/metrics"):
        yield Call(f"GET {path}", "GET", path)


def _first_row(spec: dict[str, Any]) -> Any:
    """As a client would send it: whole numbers and decimals as they stand in the data set."""
    dataset = load_builtin(spec["dataset"]["builtin"])
    if dataset.signature.image is not None:
        return dataset.inputs[0, ..., 0].tolist()
    return {name: float(values[0]) for name, values in dataset.columns.items()}


def measure(client: httpx.Client, call: Call, floor: httpx.Client, bare: Call, answer: bytes) -> Latency:
    """Sends a call and its bare twin in turn, so that whatever else the machine does burdens both.

    Each goes over one connection of its own, one at a time; the first few are not counted.
    """
    times_ms, bare_times_ms = [], []
    for _ in range(WARM_UP_REQUESTS + call.requests):
        times_ms.append(_time_ms(client, call))
        bare_times_ms.append(_time_ms(floor, bare))
    return Latency(call, len(answer), tuple(times_ms[WARM_UP_REQUESTS:]), tuple(bare_times_ms[WARM_UP_REQUESTS:]))


def _time_ms(client: httpx.Client, call: Call) -> float:
    started = perf_counter()
    call.send(client)
    return (perf_counter() - started) * 1000


def measure_all(client: httpx.Client, calls: Sequence[Call]) -> Iterator[Latency]:
    """Measures each call beside a bare route in a process of its own that answers what the call answered first."""
    answers = [call.send(client).content for call in calls]
    with tempfile.TemporaryDirectory() as folder, _floor_server(Path(folder), answers) as url, _client(url) as floor:
        for place, (call, answer) in enumerate(zip(calls, answers, strict=True)):
            sys.stderr.write(f"measuring {call.name} ...\n")
            yield measure(client, call, floor, replace(call, path=f"/{place}"), answer)


@contextmanager
def _floor_server(folder: Path, answers: Sequence[bytes]) -> Iterator[str]:
    for place, answer in enumerate(answers):
        (folder / str(place)).write_bytes(answer)
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.floor", str(folder), str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, f"{url}/0", FLOOR_SECONDS, method="POST")
        yield url
    finally:
        stop(process)


@contextmanager
def demo_server(home: Path, port: int) -> Iterator[str]:
    """`vitrine up --demo` until the block ends. Its output goes to the standard error."""
    command = [sys.executable, "-m", "service", "up", "--demo", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, f"{url}/health/ready", DEMO_SECONDS)
        yield url
    finally:
        stop(process)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, seconds: float, *, method: str = "GET") -> None:
    """Waits for a 200. Raises `RuntimeError` when the process ends before, `TimeoutError` after some seconds."""
    deadline = monotonic() + seconds
    while not _answers(method, url):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with status {process.returncode} before {url} answered.")
        if monotonic() > deadline:
            raise TimeoutError(f"{url} did not answer 200 within {seconds:g} s.")
        Event().wait(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _answers(method: str, url: str) -> bool:
    try:
        return httpx.request(method, url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server, by force where it does not end in time."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _client(url: str) -> httpx.Client:
    return httpx.Client(
        base_url=url, timeout=REQUEST_TIMEOUT_SECONDS, limits=httpx.Limits(max_connections=1), trust_env=False
    )


def _latency_row(latency: Latency) -> list[str]:
    p50_ms, p95_ms = (float(value) for value in np.percentile(latency.times_ms, (50, 95)))
    bare_ms = float(np.percentile(latency.bare_times_ms, 50))
    return [
        latency.call.name,
        str(latency.call.requests),
        f"{latency.answer_bytes:,}",
        f"{p50_ms:.2f}",
        f"{p95_ms:.2f}",
        f"{bare_ms:.2f}",
        f"{p50_ms / bare_ms:.1f}x",
    ]


def _memory_table(url: str) -> str:
    server = listening_process(httpx.URL(url).port or 80)
    if server is None:
        return "Memory: the server is not a process that this user may read on this machine."
    tree = process_tree(server)
    rows = [[process.name, f"{process.resident_mib:.0f}"] for process in tree]
    rows.append(["together (shared pages counted in each)", f"{sum(process.resident_mib for process in tree):.0f}"])
    return markdown_table(["process", "RSS, MiB"], rows)


def run(url: str) -> str:
    """Measures a server; the report in markdown."""
    with _client(url) as client:
        rows = [_latency_row(latency) for latency in measure_all(client, list(demo_calls()))]
    header = ["call", "requests", "bytes", "p50, ms", "p95, ms", "bare p50, ms", "p50 / bare"]
    return f"{markdown_table(header, rows)}\n\n{_memory_table(url)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server that runs with the demo models; default: one is started")
    parser.add_argument("--home", type=Path, help="the folder of the server that is started; default: a temporary one")
    parser.add_argument("--port", type=int, help="the port of the server that is started; default: a free one")
    options = parser.parse_args()
    machine = describe_machine()
    if options.url:
        report = run(options.url)
    else:
        folder = nullcontext(options.home) if options.home else tempfile.TemporaryDirectory()
        with folder as home, demo_server(Path(home), options.port or free_port()) as url:
            report = run(url)
    print(f"{machine}\n\n{report}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
