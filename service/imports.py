"""Takes in a user's `.keras` file with what is asked of it: bounded, streamed to disk, checked, kept by its SHA-256."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from fastapi import Request

from models.errors import Fault
from models.importing.keras_file import check_keras_file, stored_file
from models.rows import describe
from models.spec.importing import parse_import, read_import
from service.data.desk import DatasetDesk
from service.data.receiving import receive_file
from service.errors import InvalidRequest, NotReadable
from service.jobs.queue import JobQueue
from service.metrics import Metrics
from service.settings import Settings


class Importer:
    """Accepts imports: when one is accepted, file and job are stored."""

    def __init__(self, jobs: JobQueue, datasets: DatasetDesk, metrics: Metrics, settings: Settings) -> None:
        self._jobs, self._datasets, self._metrics, self._settings = jobs, datasets, metrics, settings

    async def accept(self, request: Request, model: str, idempotency_key: str | None) -> dict[str, Any]:
        """The document of the job that will import the file of a request.

        Raises:
            InvalidSpec, UnsafeModelFile: when it cannot be imported; nothing of it is kept.
            Whatever `received_import` raises.
        """
        async with received_import(request, self._settings) as (file, sha256, asked):
            document = {**asked, "model": model, "file": sha256}
            read = await asyncio.to_thread(read_import, document)
            if read.dataset is not None and read.dataset.builtin is None:
                await self._datasets.prepare(read.dataset)
            spec = await asyncio.to_thread(parse_import, document, self._datasets.folder.facts_of)
            await asyncio.to_thread(keep_file, file, sha256, self._settings.imports_directory)
        job = await asyncio.to_thread(self._jobs.submit, spec, document, idempotency_key=idempotency_key)
        self._metrics.jobs_submitted.add(())
        return job


@asynccontextmanager
async def received_import(request: Request, settings: Settings) -> AsyncIterator[tuple[Path, str, dict[str, Any]]]:
    """The part `file` of a request, written aside until the block ends, its SHA-256, and the document in `spec`.

    Raises:
        Whatever `receive_file` raises; NotReadable, InvalidRequest: as their messages say.
    """
    settings.imports_directory.mkdir(parents=True, exist_ok=True)
    aside = Path(
        await asyncio.to_thread(tempfile.mkdtemp, suffix=".writing", prefix=".", dir=settings.imports_directory)
    )
    try:
        received = await receive_file(
            request,
            aside / "model.keras",
            limit_bytes=settings.import_limit_bytes,
            idle_seconds=settings.receive_timeout_ms / 1000,
            known_fields=("spec",),
            max_field_bytes=settings.body_limit_bytes,
            variable="VITRINE_IMPORT_LIMIT_BYTES",
        )
        yield aside / "model.keras", received.sha256, _document(received.fields.get("spec"))
    finally:
        await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)


def _document(spec: str | None) -> dict[str, Any]:
    if spec is None:
        raise InvalidRequest([Fault("#/spec", "a JSON object", "nothing", "this part of the form is required")])
    try:
        document = orjson.loads(spec)
    except orjson.JSONDecodeError as error:
        raise NotReadable(
            f"The part spec is not JSON: {error.msg}, line {error.lineno}, column {error.colno}."
        ) from None
    if not isinstance(document, dict):
        raise InvalidRequest([Fault("#/spec", "a JSON object", describe(document))])
    for name in ("model", "file"):
        if name in document:
            raise InvalidRequest([Fault(f"#/{name}", "nothing: the request itself says it", describe(document[name]))])
    return document


def keep_file(file: Path, sha256: str, folder: Path) -> None:
    """Checks a `.keras` file and keeps it by its SHA-256; one that is there already is the same.

    Raises:
        UnsafeModelFile: when it may not be loaded.
    """
    check_keras_file(file)
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.rename(stored_file(folder, sha256))


def example_spec() -> str:
    """The part `spec`, as the OpenAPI document shows it."""
    return json.dumps({"dataset": {"builtin": "iris"}, "gates": {"min": {"accuracy": 0.9}}})
