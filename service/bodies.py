"""Reads request bodies: type, size and JSON checked, every fault named."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from models.errors import Fault, pointer
from models.rows import MAX_FAULTS
from models.validation import faults_of
from service.errors import BodyTooLarge, InvalidRequest, NotReadable, WrongContentType

Body = TypeVar("Body", bound=BaseModel)

JSON = "application/json"
ENCODINGS = {"identity": 0, "gzip": 31, "deflate": 15}
"""Encodings of a body, and what zlib is to expect of each."""
MAX_VALUES = 10_000
"""Values in a body beside its rows."""


async def read_json(scope: Scope, receive: Receive, limit_bytes: int) -> Any:
    """The JSON document of a request. Raises as `read_body` and `parse_json`."""
    return await parse_json(await read_body(scope, receive, limit_bytes))


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The body of a request for JSON, as it was before gzip or deflate.

    Raises:
        WrongContentType, BodyTooLarge, NotReadable: as their messages say.
        ClientDisconnect: when the client went away before its body was here.
    """
    received, encoding, announced = _headers_of_body(scope)
    kind = received.partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):
        raise WrongContentType(received, [JSON])
    return await _unpacked(receive, encoding, announced, limit_bytes)


async def read_bytes(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The body of a request, whatever its type says, as it was before gzip or deflate. Raises as `read_body`."""
    _, encoding, announced = _headers_of_body(scope)
    return await _unpacked(receive, encoding, announced, limit_bytes)


async def parse_json(body: bytes, rows: Collection[str] = ("inputs",)) -> Any:
    """The document in a body. Raises `NotReadable`: NaN and Infinity are no JSON, and their places are named.

    Args:
        rows: the keys under which rows are; what else there is may not be large.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Searched for what is wrong by a slower reader: in a thread, since a body may be large.
        raise await asyncio.to_thread(_explain_unreadable, body, error) from None
    if len(body) > MAX_VALUES and isinstance(document, dict):
        _check_size({name: value for name, value in document.items() if name not in rows})
    return document


def parse_body(document: Any, model: type[Body]) -> Body:
    """A document as the model of a body. Raises `InvalidRequest` with every fault."""
    try:
        return model.__pydantic_validator__.validate_python(document)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error, model, document)) from None


def _headers_of_body(scope: Scope) -> tuple[str, str, int]:
    """The content type, the encoding and the announced length of a body."""
    kind, encoding, length = JSON, "identity", 0
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value.decode("latin-1")
        elif name == b"content-encoding":
            encoding = value.decode("latin-1").strip().lower()
        elif name == b"content-length" and value.isdigit():
            length = int(value)
    if encoding not in ENCODINGS:
        raise WrongContentType(f"{kind}, encoded as {encoding}", [f"{JSON}, as it is or encoded as gzip or deflate"])
    return kind, encoding, length


async def _unpacked(receive: Receive, encoding: str, announced: int, limit_bytes: int) -> bytes:
    body = await _read(receive, announced, limit_bytes)
    if encoding != "identity":
        body = await asyncio.to_thread(_expanded, body, encoding, limit_bytes)
    return body


async def _read(receive: Receive, announced: int, limit_bytes: int) -> bytes:
    if announced > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body = message.get("body", b"")
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        return body
    parts = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts += message.get("body", b"")
        if len(parts) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        if not message.get("more_body", False):
            return bytes(parts)
        message = await receive()


def _expanded(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """A compressed body as it was; no more than the limit is unpacked of one that would be larger."""
    decoder = zlib.decompressobj(ENCODINGS[encoding])
    try:
        expanded = decoder.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise NotReadable(f"The body is not {encoding}: {error}.") from None
    if len(expanded) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    if not decoder.eof:
        raise NotReadable(f"The body ends before its {encoding} does.")
    if decoder.unused_data:
        raise NotReadable(f"Something comes after the end of the body's {encoding}.")
    return expanded


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
