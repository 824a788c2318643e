"""A request whose body is rows in another form than JSON: its other fields are query parameters of the same name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.types import Receive, Scope

from models.errors import Fault, describe
from models.rows import ModelInput
from models.signature import Signature
from models.validation import faults_of
from service.bodies import JSON, parse_body, parse_json, read_body, read_bytes
from service.errors import InvalidRequest, WrongContentType
from service.formats.rows import EncodedRows
from service.schemas import PredictRequest
from service.settings import Settings

Asked = TypeVar("Asked", bound=PredictRequest)

FORMATS = {
    "text/csv": ("service.formats.delimited", "read_csv"),
    "application/x-npy": ("service.formats.npy", "read_npy"),
    "application/vnd.apache.arrow.stream": ("service.formats.arrow", "read_arrow"),
    "image/png": ("service.formats.pictures", "read_picture"),
    "image/jpeg": ("service.formats.pictures", "read_picture"),
}
"""Content types, and what reads each: imported with the first body of its kind, for some bring large libraries."""
_PLACEHOLDER = ["rows are in the body"]


class BodyRows:
    """The rows of a body in another form than JSON, and what they were read as.

    Attributes:
        plain: once they have been read: rows as JSON has them, or an array.
    """

    def __init__(self, encoded: EncodedRows) -> None:
        self._encoded = encoded
        self.plain: list[Any] | NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self._encoded)

    def read_as(self, signature: Signature) -> list[Any] | NDArray[Any]:
        if self.plain is None:
            self.plain = self._encoded.read_as(signature)
        return self.plain


async def read_request(
    scope: Scope, receive: Receive, kind: type[Asked], settings: Settings, *, others: Collection[str] = ()
) -> tuple[Asked, bytes | None]:
    """What a request asks, whatever the form of its rows, and the JSON that it sent; None where it sent none.

    Args:
        kind: the model of its fields.
        others: query parameters that are read elsewhere.

    Raises:
        WrongContentType, BodyTooLarge, NotReadable, InvalidRequest, ClientDisconnect: as their messages say.
    """
    try:
        sent = await read_body(scope, receive, settings.body_limit_bytes)
    except WrongContentType as error:
        # Nothing of the body has been read yet: so JSON, which most send, is not asked twice what it is.
        content_type = _content_type(scope, error)
    else:
        if scope["query_string"]:
            _refuse_fields(scope["query_string"], kind, others)
        return parse_body(await parse_json(sent), kind), sent
    asked = fields_of_query(scope["query_string"], kind, others)
    body = await read_bytes(scope, receive, settings.body_limit_bytes)
    rows = await asyncio.to_thread(read_encoded, content_type, body, settings.max_rows)
    return asked.model_copy(update={"inputs": BodyRows(rows)}), None


def rows_of_body(asked: PredictRequest) -> bytes | ModelInput:
    """The rows of a request that has been answered, for its record: JSON as it would have sent them, or an array."""
    plain = cast(BodyRows, asked.inputs).plain
    return np.asarray(plain, np.float32) if isinstance(plain, np.ndarray) else orjson.dumps({"inputs": plain})


def _content_type(scope: Scope, error: WrongContentType) -> str:
    """The content type of a body that is no JSON. Raises `WrongContentType` where nothing here reads it."""
    sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"), JSON)
    content_type, _, parameters = sent.partition(";")
    content_type = content_type.strip().lower()
    if content_type == JSON:
        raise error  # it is its encoding that cannot be read
    if content_type not in FORMATS:
        raise WrongContentType(sent, [JSON, *FORMATS])
    if "header=absent" in parameters.replace(" ", "").lower():
        raise WrongContentType(sent, ["text/csv with a header"])
    return content_type


def fields_of_query(query: bytes, kind: type[Asked], others: Collection[str] = ()) -> Asked:
    """The fields of a request from its query string; a name that comes several times is a list.

    Raises:
        InvalidRequest: with every fault.
    """
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in others or name in kind.model_fields:
            given.setdefault(name, []).append(value)
    fields: dict[str, Any] = {name: values[0] if len(values) == 1 else values for name, values in given.items()}
    faults = []
    if "inputs" in fields:
        faults.append(Fault("query parameter inputs", "nothing: rows are in the body", describe(fields["inputs"])))
    if "options" in fields:
        fields["options"] = _json_or_itself(fields["options"])
    fields["inputs"] = _PLACEHOLDER
    try:
        # Every value of a query is a string: those that stand for numbers are taken as such.
        asked = kind.model_validate(fields, strict=False)
    except ValidationError as error:
        faults += [
            Fault(f"query parameter {fault.pointer.removeprefix('#/')}", fault.expected, fault.received, fault.detail)
            for fault in faults_of(error, kind, fields)
        ]
        raise InvalidRequest(faults) from None
    if faults:
        raise InvalidRequest(faults)
    return asked


def _refuse_fields(query: bytes, kind: type[PredictRequest], others: Collection[str]) -> None:
    """Refuses fields of a JSON body beside it, where they would change nothing."""
    faults = [
        Fault(f"query parameter {name}", "nothing: the body is JSON and holds its fields", describe(value))
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        if name in kind.model_fields and name not in others
    ]
    if faults:
        raise InvalidRequest(faults)


def _json_or_itself(text: str | list[str]) -> Any:
    try:
        return orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        return text  # and is refused as what it is


def read_encoded(content_type: str, body: bytes, max_rows: int) -> EncodedRows:
    """The rows of a body of one of `FORMATS`. Raises `NotReadable`."""
    module, name = FORMATS[content_type]
    read: Callable[[bytes, int], EncodedRows] = getattr(import_module(module), name)
    return read(body, max_rows)
