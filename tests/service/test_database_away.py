"""A database that is locked or gone for a while: predictions go on, jobs wait, nothing is lost or done twice."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from postgres import Postgres
from support import PATIENT, Server, free_port, install, point, running, succeeds, wait_for
from workers import Workers

from models.artifact import Artifact
from service.settings import Settings

pytestmark = pytest.mark.long

PREDICTION = {"model": "served", "inputs": [PATIENT]}


@pytest.fixture
def own_postgres(postgres: Postgres) -> Iterator[Postgres]:
    """A server that a test may stop."""
    server = Postgres(postgres.programs)
    server.start()
    yield server
    server.remove()
    gc.collect()  # of connections that were cut: they say so now, and not in another test


# The connections that the server has cut are dropped where they are, and say so when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.soak)])
@pytest.mark.parametrize("step", ["fitting", pytest.param("explaining", marks=pytest.mark.soak)])
def test_postgres_gone_for_a_while_costs_neither_predictions_nor_the_job(
    own_postgres: Postgres, tmp_path: Path, diabetes_artifact: Artifact, seconds: int, step: str
) -> None:
    urls = {"database_url": own_postgres.new_database(), "jobs_database_url": own_postgres.new_database()}
    settings = Settings(home=tmp_path / "home", port=free_port(), refresh_ms=100, worker_silence_seconds=2, **urls)
    with system(settings, diabetes_artifact) as (workers, server):
        job = workers.submit("built", epochs=20)
        wait_for(lambda: workers.step(job) == step)

        own_postgres.stop()
        submitted = server.client.post("/train", json={"model": "lost", "dataset": {"builtin": "iris"}}, timeout=120)
        predicted = server.client.post("/predict", json=PREDICTION)
        degraded = wait_for(lambda: (r := server.client.get("/health/ready").json())["status"] == "degraded" and r)
        Event().wait(seconds)
        own_postgres.start()

        document = workers.finished(job)
        wait_for(lambda: server.client.get("/health/ready").json()["status"] == "ready")
        again = server.client.post("/train", json={"model": "lost", "dataset": {"builtin": "iris"}})
    assert (503, "/problems/registry-unavailable") == (submitted.status_code, submitted.json()["type"])
    assert 200 == predicted.status_code
    assert ["registry: The registry cannot be read; loaded versions serve on."] == degraded["problems"]
    assert ("succeeded", 1, True) == (document["status"], document["version"], document["promoted"])
    assert (workers.versions("built"), workers.moves("built")) == ([1], 1)
    assert 202 == again.status_code


@pytest.mark.soak
@pytest.mark.parametrize("which", ["registry", "jobs"])
def test_sqlite_locked_for_longer_than_any_writer_waits_costs_neither_predictions_nor_the_job(
    tmp_path: Path, diabetes_artifact: Artifact, which: str
) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port(), refresh_ms=100, worker_silence_seconds=2)
    with system(settings, diabetes_artifact) as (workers, server):
        job = workers.submit("built", epochs=40)
        wait_for(lambda: workers.epoch(job) >= 2)

        with workers.registry_locked() if which == "registry" else workers.jobs_locked():
            statuses = set()
            for _ in range(350):
                statuses.add(server.client.post("/predict", json=PREDICTION).status_code)
                Event().wait(0.1)

        document = workers.finished(job)
    assert {200} == statuses
    assert ("succeeded", 1, True) == (document["status"], document["version"], document["promoted"])
    assert (workers.versions("built"), workers.moves("built")) == ([1], 1)


@contextmanager
def system(settings: Settings, artifact: Artifact) -> Iterator[tuple[Workers, Server]]:
    """Two workers and an API process over one database, with a model that is served."""
    workers = Workers(settings)
    point(settings, "served", install(settings, artifact, "served", "JOB-served"))
    try:
        with running(settings, "serve") as server:
            workers.start("anna")
            workers.start("bert")
            wait_for(lambda: succeeds(server.client, "/health/ready"))
            yield workers, server
    finally:
        workers.close()
