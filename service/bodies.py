"""Reads request bodies: type, size and JSON checked, every fault named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from models.errors import Fault, pointer
from models.validation import faults_of
from service.errors import BodyTooLarge, InvalidRequest, NotReadable, WrongContentType

Body = TypeVar("Body", bound=BaseModel)

JSON = "application/json"


async def read_json(request: Request, limit_bytes: int) -> Any:
    """The JSON document of a request.

    Raises:
        WrongContentType, BodyTooLarge, NotReadable: as their messages say. NaN and Infinity are no JSON; their
            places are named.
    """
    received = request.headers.get("content-type", JSON)
    kind = received.partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):
        raise WrongContentType(received, [JSON])
    body = await _read(request, limit_bytes)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _explain_unreadable(body, error) from None


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


def _explain_unreadable(body: bytes, error: orjson.JSONDecodeError) -> NotReadable:
    try:
        # Python's reader takes NaN and Infinity: if they are all that is wrong, their places can be named.
        faults = list(_non_finite(json.loads(body), ()))
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
