"""How ours grows with models loaded, rows per request and connections, and whether there is a cliff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Event
from time import monotonic

import httpx
import numpy as np

from benchmarks.serving.cells import DIFFERENT_REQUESTS, WARM_UP_SECONDS
from benchmarks.serving.forms import Native, Request, requests_of
from benchmarks.serving.load import Load, load
from benchmarks.serving.running import Running, check_answers, running
from benchmarks.serving.servers import first_requests, register_versions, vitrine
from benchmarks.serving.subjects import Subject
from benchmarks.tables import markdown_table
from service.settings import Settings

MODELS = (1, 2, 5, 10, 25, 50)
ROWS = (1, 4, 16, 64, 256, 1024)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MODELS_CONNECTIONS = 32
ROWS_CONNECTIONS = 8
LOADING_SECONDS = 300
CLIFF = 0.5


@dataclass(frozen=True, slots=True)
class Point:
    """One place on a curve: what grew, the load that was taken, and the rows answered for one request."""

    size: int
    load: Load
    rows: int = 1

    @property
    def rows_per_second(self) -> float:
        return self.load.requests_per_second * self.rows


def cliffs(points: Sequence[Point]) -> list[int]:
    """The sizes at which less than half of the rows per second are answered of what the size before did."""
    return [after.size for before, after in pairwise(points) if after.rows_per_second < CLIFF * before.rows_per_second]


def measure_growth(subjects: Mapping[str, Subject], folder: Path, *, seconds: int) -> str:
    """The curves, in markdown."""
    return "\n\n".join(
        [*_rows_and_connections(subjects, folder, seconds), _models(subjects["breast-cancer"], folder, seconds)]
    )


def _rows_and_connections(subjects: Mapping[str, Subject], folder: Path, seconds: int) -> list[str]:
    server = vitrine(subjects, folder / "growth")
    form = Native()
    tables = []
    with running(server, first_requests(server, subjects), folder / "growth.log") as started:
        started.settle()
        for subject in subjects.values():
            points = []
            for n_rows in ROWS:
                check_answers(server.url, form, subject, n_rows)
                requests = requests_of(form, subject, n_rows, min(DIFFERENT_REQUESTS, 4096 // n_rows))
                points.append(Point(n_rows, _load(server.url, requests, ROWS_CONNECTIONS, seconds), n_rows))
            tables.append(_table(f"{subject.name}, rows per request, {ROWS_CONNECTIONS} connections", "rows", points))
        subject = subjects["digits"]
        requests = requests_of(form, subject, 1, DIFFERENT_REQUESTS)
        points = [Point(count, _load(server.url, requests, count, seconds)) for count in CONNECTIONS]
        tables.append(_table(f"{subject.name}, one row per request, connections", "connections", points))
    return tables


def _models(subject: Subject, folder: Path, seconds: int) -> str:
    """One server to which models are added while it runs; each serves files of its own name with the same network."""
    server = vitrine({subject.name: subject}, folder / "models")
    settings = Settings(home=folder / "models" / "vitrine")
    form = Native()
    points, notes = [], []
    names = [subject.name, *(f"{subject.name}-{place}" for place in range(1, max(MODELS)))]
    with running(server, first_requests(server, {subject.name: subject}), folder / "models.log") as started:
        for before, count in zip((1, *MODELS), MODELS, strict=False):
            added = dict.fromkeys(names[before:count], subject.name)
            began = monotonic()
            register_versions(settings, {subject.name: subject}, models=added)
            asked = [form.ask(subject, subject.rows[:1], model=name) for name in names[:count]]
            _wait_for(server.url, asked)
            loading_seconds = monotonic() - began
            started.settle()
            requests = [
                form.ask(subject, subject.rows[place % len(subject.rows)][np.newaxis], model=name)
                for place, name in enumerate(names[:count] * (1 + DIFFERENT_REQUESTS // count))
            ]
            points.append(Point(count, _load(server.url, requests, MODELS_CONNECTIONS, seconds)))
            notes.append([f"{loading_seconds:.1f}", *_memory(started)])
    title = f"{subject.name}, one row per request, {MODELS_CONNECTIONS} connections, models loaded and asked in turn"
    return _table(title, "models", points, ["added in, s", "API process, MiB", "all, MiB"], notes)


def _wait_for(url: str, requests: Sequence[Request]) -> None:
    deadline = monotonic() + LOADING_SECONDS
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for request in requests:
            while client.post(request.path, content=request.body, headers=dict(request.headers)).status_code != 200:
                if monotonic() > deadline:
                    raise TimeoutError(f"{len(requests)} models were not loaded within {LOADING_SECONDS} s.")
                Event().wait(0.05)


def _load(url: str, requests: Sequence[Request], connections: int, seconds: int) -> Load:
    load(url, requests, connections=connections, seconds=WARM_UP_SECONDS)
    return load(url, requests, connections=connections, seconds=seconds)


def _memory(started: Running) -> list[str]:
    memory = started.memory()
    return [f"{memory.front_mib:,.0f}", f"{memory.resident_mib:,.0f}"]


def _table(
    title: str,
    size: str,
    points: Sequence[Point],
    more: Sequence[str] = (),
    notes: Sequence[Sequence[str]] | None = None,
) -> str:
    header = [size, "requests/s", "rows/s", "p50, ms", "p99, ms", *more]
    rows = [
        [
            str(point.size),
            f"{point.load.requests_per_second:,.0f}",
            f"{point.rows_per_second:,.0f}",
            f"{point.load.p50_ms:.2f}",
            f"{point.load.p99_ms:.2f}",
            *note,
        ]
        for point, note in zip(points, notes or [()] * len(points), strict=True)
    ]
    found = cliffs(points)
    said = f"Cliff at {', '.join(map(str, found))} {size}: FAIL." if found else "No cliff."
    return f"### Growth: {title}\n\n{markdown_table(header, rows)}\n\n{said}"
