"""Takes in a user's `.keras` file with what is asked of it: bounded, streamed to disk, checked, kept by its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from models.errors import Fault
from models.importing.keras_file import check_keras_file, stored_file
from models.rows import describe
from service.errors import BodyTooLarge, InvalidRequest, NotReadable, WrongContentType

MULTIPART = "multipart/form-data"
_CHUNK_BYTES = 2**20


@asynccontextmanager
async def received_import(
    request: Request, *, file_limit_bytes: int, spec_limit_bytes: int
) -> AsyncIterator[tuple[BinaryIO, dict[str, Any]]]:
    """The parts `file` and `spec` of a request, the first as an open temporary file.

    Raises:
        WrongContentType, BodyTooLarge, NotReadable, InvalidRequest: as their messages say.
    """
    received = request.headers.get("content-type", "nothing")
    if received.partition(";")[0].strip().lower() != MULTIPART:
        raise WrongContentType(received, [MULTIPART])
    limit_bytes = file_limit_bytes + spec_limit_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise BodyTooLarge(limit_bytes, "VITRINE_IMPORT_LIMIT_BYTES")
    bounded = Request(request.scope, _bounded(request.receive, limit_bytes))
    async with bounded.form(max_files=2, max_fields=2, max_part_size=spec_limit_bytes) as form:
        file, spec = form.get("file"), form.get("spec")
        faults = []
        if not isinstance(file, UploadFile):
            faults.append(Fault("part file", "a .keras file", describe(file) if file is not None else "nothing"))
        if isinstance(spec, UploadFile):
            spec = (await spec.read(spec_limit_bytes)).decode(errors="replace")
        if spec is None:
            faults.append(Fault("part spec", "a JSON object", "nothing"))
        if extra := sorted(set(form) - {"file", "spec"}):
            faults.append(Fault(f"part {extra[0]}", "the parts file and spec", "an unknown part"))
        if faults or spec is None or not isinstance(file, UploadFile):
            raise InvalidRequest(faults)
        yield file.file, _document(spec)


def _document(spec: str) -> dict[str, Any]:
    try:
        document = orjson.loads(spec)
    except orjson.JSONDecodeError as error:
        raise NotReadable(
            f"The part spec is not JSON: {error.msg}, line {error.lineno}, column {error.colno}."
        ) from None
    if not isinstance(document, dict):
        raise InvalidRequest([Fault("part spec", "a JSON object", describe(document))])
    for name in ("model", "file"):
        if name in document:
            raise InvalidRequest([Fault(f"#/{name}", "nothing: the request itself says it", describe(document[name]))])
    return document


def _bounded(receive: Receive, limit_bytes: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit_bytes:
            raise BodyTooLarge(limit_bytes, "VITRINE_IMPORT_LIMIT_BYTES")
        return message

    return bounded


async def keep_file(file: BinaryIO, folder: Path) -> str:
    """Checks a `.keras` file and keeps it under its SHA-256, which is returned; one that is there already stays.

    Raises:
        UnsafeModelFile: when it may not be loaded.
    """
    return await asyncio.to_thread(_keep_file, file, folder)


def _keep_file(file: BinaryIO, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".writing", dir=folder)
    aside = Path(name)
    try:
        digest = hashlib.sha256()
        file.seek(0)
        with os.fdopen(descriptor, "wb") as kept:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                kept.write(chunk)
            kept.flush()
            os.fsync(kept.fileno())
        check_keras_file(aside)
        aside.rename(stored_file(folder, digest.hexdigest()))
        return digest.hexdigest()
    finally:
        aside.unlink(missing_ok=True)


def example_spec() -> str:
    """The part `spec`, as the OpenAPI document shows it."""
    return json.dumps({"dataset": {"builtin": "iris"}, "gates": {"min": {"accuracy": 0.9}}})
