"""A pool beside a real registry and real versions; the compute process is away, so that nothing can depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support import install

from models.artifact import Artifact
from models.database import open_database
from models.registry import Registry
from service.serving.compute import ComputeClient
from service.serving.failures import Patience
from service.serving.pool import ModelPool
from service.serving.preload import Preload
from service.settings import Settings

NAME = "diabetes"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Scene:
    """A pool, and what a test does to the world around it."""

    def __init__(
        self,
        home: Path,
        artifact: Artifact,
        versions: int,
        *,
        memory_bytes: int = 2**40,
        preload: Sequence[str] = ("*",),
        **patience: float,
    ) -> None:
        self.settings, self.artifact = Settings(home=home), artifact
        self.settings.prepare_home()
        self.registry = Registry(open_database(self.settings.registry_url))
        for i in range(versions):
            install(self.settings, artifact, NAME, f"JOB-{i + 1}")
        self.compute = ComputeClient(None)  # not started: orders wait for ever
        self.clock = Clock()
        self.pool = ModelPool(
            self.registry,
            self.compute,
            refresh_ms=100,
            loaded_versions=1,
            memory_bytes=memory_bytes,
            preload=Preload.of(preload),
            patience=Patience(**{"swap_seconds": 0, **patience}),
            clock=self.clock,
        )

    def point(self, alias: str, version: int) -> None:
        self.registry.move_alias(NAME, alias, str(version), by="test", reason="test")

    def directory(self, version: int) -> Path:
        return self.settings.versions_directory / NAME / f"JOB-{version}"
