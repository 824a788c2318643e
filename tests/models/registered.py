"""Versions registered, and aliases moved, as jobs and people would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.registry import AliasMove, Registry


def register(
    registry: Registry,
    job: str,
    model: str = "m",
    gates: list[dict[str, Any]] | None = None,
    attempt: int | None = None,
    directory: Path | None = None,
) -> int:
    return registry.register(
        model=model,
        job=job,
        directory=str(directory or f"/versions/{model}/{job}"),
        task="regression",
        gates=gates or [],
        attempt=attempt,
    )


def move(registry: Registry, alias: str, version: int | str) -> AliasMove:
    return registry.move_alias("m", alias, str(version), by="anna", reason="")
