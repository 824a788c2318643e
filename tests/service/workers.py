"""Two real workers on one database, for tests that kill them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from support import child_processes, wait_for

from models.database import WRITERS_LOCK, open_database
from models.registry import Registry, moves_table, versions_table
from models.spec import parse_spec
from service.jobs.membership import workers_table
from service.jobs.progress import JobProgress
from service.jobs.queue import JobQueue
from service.settings import Settings


@dataclass
class Workers:
    """Workers that are started, killed and started again, and the queue they work on."""

    settings: Settings
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings.prepare_home()
        self.engine = open_database(self.settings.registry_url)
        self.queue = JobQueue(self.settings.jobs_url, self.engine)
        self.registry, self.progress = Registry(self.engine), JobProgress(self.engine)

    def start(self, name: str) -> None:
        if name in self.running:
            return
        with (self.settings.home / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "service", "worker"],
                env={**os.environ, **self.settings.model_copy(update={"worker_id": name}).to_environment()},
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        process = self.running.pop(name)
        process.terminate()
        return process.wait(120)

    def close(self) -> None:
        for name in list(self.running):
            self.running[name].send_signal(signal.SIGCONT)
            self.kill(name)
        self.queue.close()
        self.engine.dispose()

    def submit(self, model: str, **training: Any) -> str:
        document = {
            "model": model,
            "dataset": {"builtin": "iris"},
            "architecture": {"type": "mlp", "layers": [4]},
            "training": {"epochs": 8, "early_stopping": None, **training},
        }
        return self.queue.submit(parse_spec(document), document)["job"]

    def step(self, job: str) -> str | None:
        return self.progress.read([job]).get(job, (None, None))[0]

    def epoch(self, job: str) -> int:
        figures = self.progress.read([job]).get(job, (None, None))[1]
        return (figures or {}).get("epoch", 0)

    def recorded_steps(self, job: str) -> list[str]:
        return [step["function_name"] for step in self.queue._client.list_workflow_steps(job)]

    def holder(self, job: str) -> str:
        """The worker that has a trainer for a job."""
        return next(name for name in self.running if self.trainers(name, job))

    def trainers(self, name: str, job: str) -> list[int]:
        pids = child_processes(self.running[name].pid, "service.jobs.trainer")
        return [pid for pid in pids if job.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def finished(self, job: str, *, seconds: float = 240) -> dict[str, Any]:
        ended = ("succeeded", "failed", "cancelled")
        return wait_for(lambda: (d := self.queue.job(job))["status"] in ended and d, seconds=seconds)

    def versions(self, model: str) -> list[int]:
        chosen = sa.select(versions_table.c.version).where(versions_table.c.model == model)
        with self.engine.connect() as connection:
            return list(connection.execute(chosen).scalars())

    def moves(self, model: str) -> int:
        chosen = sa.select(sa.func.count()).select_from(moves_table).where(moves_table.c.model == model)
        with self.engine.connect() as connection:
            return connection.execute(chosen).scalar_one()

    def beating_process(self, name: str) -> int | None:
        """The process that holds the name of a worker."""
        chosen = sa.select(workers_table.c.pid).where(workers_table.c.worker == name)
        with self.engine.connect() as connection:
            return connection.execute(chosen).scalar()

    def log(self, name: str) -> str:
        return (self.settings.home / f"{name}.log").read_text()

    @contextmanager
    def registry_locked(self) -> Iterator[None]:
        """Nobody else can write to the registry."""
        with locked(self.settings.registry_url, f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})"):
            yield

    @contextmanager
    def jobs_locked(self) -> Iterator[None]:
        """No step can be recorded as done."""
        with locked(self.settings.jobs_url, "LOCK TABLE dbos.operation_outputs IN SHARE MODE"):
            yield


@contextmanager
def locked(url: str, on_postgres: str) -> Iterator[None]:
    address = sa.make_url(url)
    if address.drivername == "sqlite":
        assert address.database is not None
        lock = sqlite3.connect(address.database, timeout=30, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            lock.execute("ROLLBACK")
            lock.close()
    else:
        with psycopg.connect(url) as connection:
            connection.execute(on_postgres.encode())
            yield
            connection.rollback()
