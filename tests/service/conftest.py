"""A real server over versions that were really trained: one per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Server, free_port, install, point, running, succeeds, wait_for, without_onnx

from models.artifact import Artifact
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
        wait_for(lambda: succeeds(server.client, "/health/ready"), seconds=180)
        yield server
