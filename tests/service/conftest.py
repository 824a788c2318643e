"""A real server over versions that were really trained: one per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Server, free_port, install, running, succeeds, wait_for, without_onnx

from models.artifact import Artifact
from models.database import open_database
from models.registry import CHAMPION, Registry
from service.settings import Settings


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    digits_artifact: Artifact,
    diabetes_artifact: Artifact,
    breast_cancer_artifact: Artifact,
) -> Iterator[Server]:
    """`vitrine serve` with a champion of each demo model, and `keras-only`: diabetes without its ONNX export."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port(), refresh_ms=100)
    settings.prepare_home()
    registry = Registry(open_database(settings.registry_url))
    for model, artifact in (
        ("digits", digits_artifact),
        ("diabetes", diabetes_artifact),
        ("breast-cancer", breast_cancer_artifact),
        ("keras-only", without_onnx(diabetes_artifact, tmp_path_factory.mktemp("keras-only"))),
    ):
        version = install(settings, artifact, model, f"JOB-{model}")
        registry.move_alias(model, CHAMPION, str(version), by="test", reason="test")
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        yield server
