"""What is wrong with a V1 request, in TensorFlow Serving's words and codes: `{"error": "..."}`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import orjson
from fastapi import Response
from starlette.requests import ClientDisconnect

from models.errors import Fault, InvalidRows, UnknownModel, UnknownVersion, VitrineError
from service.bodies import JSON
from service.errors import InvalidRequest, NotReadable
from service.problems import MAX_ERRORS, STATUSES, known_error, retry_after_seconds

_STATUSES = {415: 400, 422: 400}
"""Where the protocol knows one status only for what cannot be used: INVALID_ARGUMENT."""


class MalformedRequest(VitrineError):
    """A document that is no V1 request."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which version a path means: a number, a label (an alias of ours), or neither."""

    model: str
    version: str | None = None
    label: str | None = None

    @property
    def wanted(self) -> str | None:
        """The version or alias to look for; None where the path names none."""
        return self.version or self.label

    def __str__(self) -> str:
        return f"Specific({self.model}, {self.version})" if self.version else f"Latest({self.model})"


@contextmanager
def rows_under(key: str) -> Iterator[None]:
    """Within it, what is wrong with rows is said of the key of the request that held them."""
    try:
        yield
    except InvalidRows as error:
        raise MalformedRequest(_listed(error, [_row_fault(fault, key) for fault in error.faults])) from None


def error_response(error: Exception, path: str, place: Place | None = None) -> Response:
    """What is answered to an error.

    Raises:
        The error, where it is not known: the server's log and metrics have it further out.
    """
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if isinstance(error, MalformedRequest):
        return text_response(400, str(error))
    error = known_error(error, path)
    seconds = retry_after_seconds(error)
    status, text = _worded(error, place)
    return text_response(status, text, {"Retry-After": str(max(1, ceil(seconds)))} if seconds else None)


def text_response(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": text}), status, headers, JSON)


def _worded(error: Exception, place: Place | None) -> tuple[int, str]:
    status = STATUSES[type(error)][0]
    status = _STATUSES.get(status, status)
    if place is not None and isinstance(error, UnknownVersion) and place.label is not None:
        return 400, f"Unrecognized servable version label: {place.label}. {error}"
    if place is not None and isinstance(error, UnknownModel | UnknownVersion):
        return status, f"Servable not found for request: {place}. {error}"
    if isinstance(error, NotReadable):
        return status, f"JSON Parse error: {error}"
    if isinstance(error, InvalidRequest):
        return status, _listed(error, [_value_fault(fault) for fault in error.faults])
    return status, str(error)


def _row_fault(fault: Fault, key: str) -> str:
    """A fault of a row, whose pointer is that of the native route, in the protocol's words."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in fault.pointer.split("/")[2:]]
    element = f" element: {parts[0]}" if parts else ""
    inside = f" key: {'/'.join(parts[1:])}" if len(parts) > 1 else ""
    detail = f" ({fault.detail})" if fault.detail else ""
    return (
        f"Failed to process{element}{inside} of '{key}' list. Error: expected {fault.expected}, "
        f"received {fault.received}{detail}"
    )


def _value_fault(fault: Fault) -> str:
    detail = f" ({fault.detail})" if fault.detail else ""
    return f"{fault.pointer.removeprefix('#/') or 'JSON'}: expected {fault.expected}, received {fault.received}{detail}"


def _listed(error: Exception, texts: Sequence[str]) -> str:
    if not texts:
        return str(error)
    more = f"; and {len(texts) - MAX_ERRORS} more" if len(texts) > MAX_ERRORS else ""
    return "; ".join(texts[:MAX_ERRORS]) + more
