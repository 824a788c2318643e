"""Starts real servers for tests, over versions that were really trained."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import httpx
import sqlalchemy as sa
from ports import free_port as free_port

from models.artifact import BACKGROUND, CARD, KERAS, SIGNATURE, Artifact, open_artifact, writing
from models.database import open_database
from models.registry import CHAMPION, Registry
from service.demo import EIGHT as EIGHT
from service.settings import Settings

COMPUTE = "service.serving.compute_process"
TRAINER = "service.jobs.trainer"
DATASET_LIMIT_BYTES, IMPORT_LIMIT_BYTES = 300_000, 2_000_000
"""Of the system that tests share."""
DAMAGED = 6
"""The version of the server with narrow limits that cannot be loaded."""
NOT_COMPILED = {"NUMBA_DISABLE_JIT": "1"}
"""Each process for shap's explainers would have numba compile shap's loops first, for ten to thirty seconds; those that
servers of tests run are short. They are compiled in tests/explain/test_reference.py."""
PATIENT = [59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]


@dataclass(frozen=True)
class Server:
    """A running `vitrine serve` (or `up`) and a client for it."""

    client: httpx.Client
    settings: Settings
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.settings.home / "server.log").read_text()


def wait_for(condition: Callable[[], Any], *, seconds: float = 240) -> Any:
    """The first true value of a condition; fails when there is none in time."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if value := condition():
            return value
        Event().wait(0.05)
    raise AssertionError(f"not within {seconds} s: {condition}")


def mostly_under(seconds: float, measure: Callable[[], float], *, most_tries: int = 25) -> bool:
    """Whether what is measured is under a bound most of the times, of three at least.

    Any process of a busy machine may be stopped for a while: only many long times say something of what is measured.
    """
    balance = 0
    for tries in range(1, most_tries + 1):
        balance += 1 if measure() < seconds else -1
        if tries >= 3 and balance > 0:
            return True
    return False


def install(
    settings: Settings, artifact: Artifact, model: str, job: str, *, gates: list[dict[str, Any]] | None = None
) -> int:
    """Puts a copy of a trained version where a job would, and registers it."""
    directory = settings.versions_directory / model / job
    shutil.copytree(artifact.directory, directory)
    with registry_of(settings) as registry:
        return registry.register(
            model=model, job=job, directory=str(directory), task=artifact.signature.task, gates=gates or []
        )


@contextmanager
def database_of(settings: Settings) -> Iterator[sa.Engine]:
    """The registry's database, whose connections are closed in the end."""
    engine = open_database(settings.registry_url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def registry_of(settings: Settings) -> Iterator[Registry]:
    with database_of(settings) as engine:
        yield Registry(engine)


def point(settings: Settings, model: str, version: int, *, alias: str = CHAMPION) -> None:
    """Moves an alias as another process would."""
    with registry_of(settings) as registry:
        registry.move_alias(model, alias, str(version), by="test", reason="test")


@contextmanager
def running(settings: Settings, *arguments: str, python: str | Path = sys.executable) -> Iterator[Server]:
    """Starts `vitrine` with some arguments and ends it again."""
    settings.prepare_home()
    with (settings.home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "service", *arguments],
            env={**os.environ, **NOT_COMPILED, **settings.to_environment()},
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=120) as client:
            yield Server(client, settings, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def succeeds(client: httpx.Client, path: str) -> httpx.Response | None:
    try:
        response = client.get(path)
    except httpx.HTTPError:
        return None
    return response if response.status_code == 200 else None


def explains(server: Server) -> bool:
    """Whether every champion is loaded wherever it is needed."""
    answer = succeeds(server.client, "/health/ready")
    return answer is not None and all(model["explains"] for model in answer.json()["models"].values())


def without_onnx(artifact: Artifact, folder: Path) -> Artifact:
    """The same version as if its ONNX export had not agreed."""
    with writing(folder / "version") as aside:
        for name in (KERAS, SIGNATURE, BACKGROUND, CARD):
            shutil.copy(artifact.directory / name, aside / name)
    return open_artifact(folder / "version")


def child_processes(parent: int, module: str) -> list[int]:
    """Process ids of the children of a process that run a module."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and module.encode() in _read(folder / "cmdline"):
            fields = _read(folder / "stat").decode().rpartition(")")[2].split()
            if fields and int(fields[1]) == parent:
                found.append(int(folder.name))
    return found


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has taken, in clock ticks."""
    fields = _read(Path(f"/proc/{pid}/stat")).decode().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # the process has just ended


@contextmanager
def locked_by_another_process(database: Path) -> Iterator[None]:
    """Another process holds an SQLite database for itself."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30);"
        "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        yield
        holder.kill()
