"""Reads request bodies: type, size and JSON checked, every fault named."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from models.errors import Fault, pointer
from models.rows import MAX_FAULTS
from models.validation import faults_of
from service.errors import BodyTooLarge, InvalidRequest, NotReadable, WrongContentType

Body = TypeVar("Body", bound=BaseModel)

JSON = "application/json"
MAX_VALUES = 10_000
"""Values in a body beside its rows."""


async def read_json(request: Request, limit_bytes: int) -> Any:
    """The JSON document of a request. Raises as `read_body` and `parse_json`."""
    return await parse_json(await read_body(request, limit_bytes))


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body of a request that says it is JSON, or nothing of its type. Raises `WrongContentType`, `BodyTooLarge`."""
    received = request.headers.get("content-type", JSON)
    kind = received.partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):
        raise WrongContentType(received, [JSON])
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise WrongContentType(f"{received}, encoded as {encoding}", [f"{JSON} without Content-Encoding"])
    return await _read(request, limit_bytes)


async def parse_json(body: bytes) -> Any:
    """The document in a body. Raises `NotReadable`: NaN and Infinity are no JSON, and their places are named."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Searched for what is wrong by a slower reader: in a thread, since a body may be large.
        raise await asyncio.to_thread(_explain_unreadable, body, error) from None
    if len(body) > MAX_VALUES and isinstance(document, dict):
        _check_size({name: value for name, value in document.items() if name != "inputs"})
    return document


def parse_body(document: Any, model: type[Body]) -> Body:
    """A document as the model of a body. Raises `InvalidRequest` with every fault."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error, model, document)) from None


async def _read(request: Request, limit_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return bytes(body)


def _check_size(document: dict[str, Any]) -> None:
    """Refuses what no request needs, before millions of faults are looked for in it. Rows are counted elsewhere."""
    count, waiting = 0, [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            count += len(value)
            if count > MAX_VALUES:
                raise InvalidRequest([Fault("#", f"at most {MAX_VALUES:,} values beside the rows", "more")])
            waiting += value.values() if isinstance(value, dict) else value


def _explain_unreadable(body: bytes, error: orjson.JSONDecodeError) -> NotReadable:
    try:
        # Python's reader takes NaN and Infinity: if they are all that is wrong, their places can be named.
        faults = list(islice(_non_finite(json.loads(body), ()), MAX_FAULTS))
    except (ValueError, RecursionError):
        faults = []
    if faults:
        return NotReadable(
            "The body is not JSON: NaN and Infinity are not JSON numbers. Send null for a missing value.", faults
        )
    if not body:
        return NotReadable("The body is empty; a JSON document is expected.")
    return NotReadable(f"The body is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.")


def _non_finite(value: Any, place: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _non_finite(item, (*place, name))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _non_finite(item, (*place, i))
    elif isinstance(value, float) and not math.isfinite(value):
        yield Fault(pointer(*place), "a finite number", str(value))
