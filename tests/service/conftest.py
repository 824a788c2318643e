"""A real server over versions that were really trained: one per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import (
    DAMAGED,
    DATASET_LIMIT_BYTES,
    IMPORT_LIMIT_BYTES,
    TRAINER,
    Server,
    child_processes,
    explains,
    free_port,
    install,
    point,
    running,
    succeeds,
    wait_for,
    without_onnx,
)

from models.artifact import ONNX, Artifact
from service.settings import Settings


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    digits_artifact: Artifact,
    diabetes_artifact: Artifact,
    breast_cancer_artifact: Artifact,
) -> Iterator[Server]:
    """`vitrine serve` with a champion of each demo model, and `keras-only`: diabetes without its ONNX export."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, port=free_port(), grpc_port=free_port(), refresh_ms=100)
    settings.prepare_home()
    for model, artifact in (
        ("digits", digits_artifact),
        ("diabetes", diabetes_artifact),
        ("breast-cancer", breast_cancer_artifact),
        ("keras-only", without_onnx(diabetes_artifact, tmp_path_factory.mktemp("keras-only"))),
    ):
        point(settings, model, install(settings, artifact, model, f"JOB-{model}"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        yield server


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory, diabetes_artifact: Artifact) -> Iterator[Server]:
    """A server with narrow limits that tells all: it takes a MiB and eight rows, keeps one version loaded beside the
    champion, records every prediction and logs JSON with every detail. Diabetes has five sound versions, of which 1 is
    champion, and a damaged one."""
    settings = Settings(
        home=tmp_path_factory.mktemp("narrow"), port=free_port(), grpc_port=free_port(), refresh_ms=100,
        body_limit_bytes=2**20, max_rows=8, loaded_versions=1, record_predictions=1.0, log_format="json",
        log_level="DEBUG",
    )  # fmt: skip
    settings.prepare_home()
    for i in range(DAMAGED):
        assert install(settings, diabetes_artifact, "diabetes", f"JOB-{i}") == i + 1
    damaged = settings.versions_directory / "diabetes" / f"JOB-{DAMAGED - 1}" / ONNX
    damaged.write_bytes(damaged.read_bytes()[:-100])
    point(settings, "diabetes", 1)
    with running(settings, "serve") as server:
        wait_for(lambda: explains(server))
        yield server


@pytest.fixture(scope="session")
def recording(
    tmp_path_factory: pytest.TempPathFactory,
    digits_artifact: Artifact,
    diabetes_artifact: Artifact,
    other_diabetes_artifact: Artifact,
    breast_cancer_artifact: Artifact,
) -> Iterator[Server]:
    """A server that records every prediction and pads calls; diabetes has versions 1 to 3, of which 1 is champion."""
    home = tmp_path_factory.mktemp("recording")
    settings = Settings(home=home, port=free_port(), refresh_ms=100, record_predictions=1.0, pad_batches=True)
    settings.prepare_home()
    for number, artifact in enumerate((diabetes_artifact, other_diabetes_artifact, diabetes_artifact)):
        install(settings, artifact, "diabetes", f"JOB-{number}")
    point(settings, "diabetes", 1)
    for model, artifact in (("digits", digits_artifact), ("breast-cancer", breast_cancer_artifact)):
        point(settings, model, install(settings, artifact, model, f"JOB-{model}"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        yield server


@pytest.fixture(scope="session")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`vitrine up` with one trainer, and limits for files. Those that use it run in one process (tests/sharing.py)."""
    settings = Settings(
        home=tmp_path_factory.mktemp("system"), port=free_port(), refresh_ms=100, trainers=1, drain_seconds=0,
        dataset_limit_bytes=DATASET_LIMIT_BYTES, import_limit_bytes=IMPORT_LIMIT_BYTES,
    )  # fmt: skip
    with running(settings, "up") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"), seconds=300)
        yield server


@pytest.fixture(scope="module")
def system(whole_system: Server) -> Iterator[Server]:
    """The same; jobs that a file of tests leaves behind are cancelled, for those of the next would wait for them."""
    yield whole_system
    for job in whole_system.client.get("/train", params={"limit": 1000}).json()["jobs"]:
        if job["status"] in ("queued", "running"):
            whole_system.client.post(f"/train/{job['job']}/cancel")
    worker = int((whole_system.settings.run_directory / "worker.pid").read_text())
    wait_for(lambda: not child_processes(worker, TRAINER))
