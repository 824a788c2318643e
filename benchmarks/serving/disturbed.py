"""The p99 of predictions at a quarter of the peak, open loop: alone, beside explanations, and during hot swaps."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic

import httpx

from benchmarks.serving.cells import DIFFERENT_REQUESTS
from benchmarks.serving.forms import Native, Request, requests_of
from benchmarks.serving.load import load, parse_result, write_requests, wrk_command
from benchmarks.serving.open_loop import OpenLoop, open_loop
from benchmarks.serving.running import running
from benchmarks.serving.servers import first_requests, vitrine
from benchmarks.serving.subjects import Subject
from benchmarks.tables import markdown_table

MODEL = "digits"
PEAK_CONNECTIONS = 32
PEAK_SECONDS = 3
SHARE_OF_PEAK = 0.25
SECONDS = 15
EXPLAINING_CLIENTS = 4
EXPLAIN_SECONDS = 300
SWAPS = 10
SWAP_SECONDS = 60
"""The longest that one swap may take."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a disturbance may cost: at most so many times the p99, or so many milliseconds more."""

    times: float
    more_ms: float

    def holds(self, alone_ms: float, disturbed_ms: float) -> bool:
        return disturbed_ms <= max(alone_ms * self.times, alone_ms + self.more_ms)

    def __str__(self) -> str:
        return f"{self.times:g}x or +{self.more_ms:g} ms"


EXPLAINING_BAR = Bar(2, 5)
SWAPPING_BAR = Bar(1.5, 2)


@dataclass(slots=True)
class Swaps:
    """How many swaps were carried out, and what went wrong with one."""

    done: int = 0
    error: Exception | None = None


def measure_disturbed(subjects: Mapping[str, Subject], folder: Path, *, rounds: int) -> str:
    """The report. Each round: alone, beside explanations, alone again, during swaps; the same arrivals in all four."""
    subject = subjects[MODEL]
    server = vitrine(subjects, folder / "disturbed", copies=1 + SWAPS * rounds)
    requests = requests_of(Native(), subject, 1, DIFFERENT_REQUESTS)
    host = server.url.removeprefix("http://")
    raw = [request.raw(host) for request in requests]
    explained = [ask for each in subjects.values() for ask in requests_of(Native("/explain"), each, 1, 8)]
    rows: list[list[str]] = []
    with running(server, first_requests(server, subjects), folder / "disturbed.log") as started:
        started.settle()
        _explain_once(server.url, explained)
        load(server.url, requests, connections=PEAK_CONNECTIONS, seconds=1)
        peak = load(server.url, requests, connections=PEAK_CONNECTIONS, seconds=PEAK_SECONDS).requests_per_second
        versions = count(2)

        def measure(seed: int) -> OpenLoop:
            return open_loop(server.url, raw, per_second=peak * SHARE_OF_PEAK, seconds=SECONDS, seed=seed)

        for seed in range(rounds):
            alone = measure(seed)
            with explaining(server.url, explained, folder / f"explained-{seed}") as answered:
                disturbed = measure(seed)
            name = f"{EXPLAINING_CLIENTS} clients explain: {answered()} explanations"
            rows.append(_row(name, alone, disturbed, EXPLAINING_BAR))
            started.settle()
            alone = measure(seed)
            with swapping(server.url, requests[0], versions) as swaps:
                disturbed = measure(seed)
                within = swaps.done
            rows.append(_row(f"{within} of {SWAPS} hot swaps in that time", alone, disturbed, SWAPPING_BAR))
            started.settle()
    percentiles = ["p50 alone", "p50", "p99 alone", "p99", "p99.9 alone", "p99.9"]
    header = ["beside", *percentiles, "ratio of p99", "bar", "verdict", "p99 of sending late"]
    about = (
        f"`POST /predict`, {MODEL}, one row; Poisson arrivals at {peak * SHARE_OF_PEAK:,.0f} requests/s, a quarter of "
        f"the {peak:,.0f} of {PEAK_CONNECTIONS} connections; milliseconds from when a request was due."
    )
    return f"### Beside other work, open loop\n\n{about}\n\n{markdown_table(header, rows)}"


def _explain_once(url: str, requests: list[Request]) -> None:
    """Asks for each explanation, so that none is made for the first time while it is measured."""
    with httpx.Client(base_url=url, timeout=EXPLAIN_SECONDS, trust_env=False) as client:
        for request in requests:
            client.post(request.path, content=request.body, headers=dict(request.headers)).raise_for_status()


@contextmanager
def explaining(url: str, requests: list[Request], folder: Path) -> Iterator[_Answered]:
    """Clients that ask for explanations without pause, until some seconds after a measurement would have ended."""
    write_requests(folder, url, requests)
    command = wrk_command(folder, url, EXPLAINING_CLIENTS, SECONDS + 2)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    answered = _Answered()
    try:
        threading.Event().wait(1.0)  # until all of them are at work
        yield answered
        printed, _ = process.communicate(timeout=SECONDS + 60)
        answered.count = parse_result(printed).requests
    finally:
        process.kill()
        process.wait()


@dataclass(slots=True)
class _Answered:
    """How many explanations were answered, once that is known."""

    count: int | None = None

    def __call__(self) -> int:
        if self.count is None:
            raise RuntimeError("the clients that explain have not ended.")
        return self.count


@contextmanager
def swapping(url: str, request: Request, versions: Iterator[int]) -> Iterator[Swaps]:
    """Moves the champion to versions that were never loaded, one after the other, each as soon as the last one serves.

    The block's end waits for the last of them.
    """
    swaps = Swaps()
    thread = threading.Thread(target=_swap_all, args=(url, request, versions, swaps), name="swaps")
    thread.start()
    try:
        yield swaps
    finally:
        thread.join()
    if swaps.error is not None:
        raise swaps.error


def _swap_all(url: str, request: Request, versions: Iterator[int], swaps: Swaps) -> None:
    try:
        with httpx.Client(base_url=url, timeout=SWAP_SECONDS, trust_env=False) as client:
            for _ in range(SWAPS):
                _swap(client, request, next(versions))
                swaps.done += 1
    except (httpx.HTTPError, TimeoutError) as error:
        swaps.error = error


def _swap(client: httpx.Client, request: Request, version: int) -> None:
    """Moves the champion, and waits until predictions are that version's."""
    moved = client.put(f"/models/{MODEL}/aliases/champion", json={"version": version, "reason": "benchmark"})
    moved.raise_for_status()
    deadline = monotonic() + SWAP_SECONDS
    while _serving_version(client, request) != version:
        if monotonic() > deadline:
            raise TimeoutError(f"version {version} did not serve within {SWAP_SECONDS} s.")
        threading.Event().wait(0.1)


def _serving_version(client: httpx.Client, request: Request) -> int:
    answer = client.post(request.path, content=request.body, headers=dict(request.headers))
    return answer.raise_for_status().json()["version"]


def _row(name: str, alone: OpenLoop, disturbed: OpenLoop, bar: Bar) -> list[str]:
    p99_alone, p99 = alone.percentile(99), disturbed.percentile(99)
    return [
        name,
        *(f"{each.percentile(q):.2f}" for q in (50, 99, 99.9) for each in (alone, disturbed)),
        f"{p99 / p99_alone:.2f}x",
        str(bar),
        "pass" if bar.holds(p99_alone, p99) else "FAIL",
        f"{disturbed.late_percentile(99):.2f}",
    ]
