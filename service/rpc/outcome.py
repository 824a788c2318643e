"""How the outcome of a call is said in gRPC: codes, and what a client is told beside the message of an error."""

from __future__ import annotations

import math
from typing import Any

import grpc

from service.problems import in_one_string
from service.rpc.messages import ERRORS, message_class

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    410: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""By the status that the same fact has in HTTP (`problems.py`)."""
_CODES_OF_PROBLEMS = {"/problems/unknown-method": grpc.StatusCode.UNIMPLEMENTED}
"""Where gRPC tells apart what is one status of HTTP."""
MOST_MESSAGE_BYTES, MOST_VIOLATION_BYTES = 2000, 2000
"""Clients refuse trailers of more than 8 KiB, and then tell their own error in place of ours."""
MOST_PUSHBACK_SECONDS = 10.0
"""A client that retries by itself is told to wait for so long at most; beyond it, to say the error instead."""

Metadata = tuple[tuple[str, str | bytes], ...]
_Status, _RetryInfo, _BadRequest = (message_class(name, ERRORS) for name in ("Status", "RetryInfo", "BadRequest"))


def refusal(problem: dict[str, Any], retry_after_seconds: float | None) -> tuple[grpc.StatusCode, str, Metadata]:
    """Code, message and trailing metadata of the answer to an error.

    The metadata hold the error once more as a google.rpc.Status (`grpc-status-details-bin`), with a BadRequest that
    names each fault and a RetryInfo; and for clients that retry by themselves `grpc-retry-pushback-ms` (gRFC A6).

    Args:
        problem: its problem document.
    """
    code = _CODES_OF_PROBLEMS.get(problem["type"]) or CODES[problem["status"]]
    message = _within(in_one_string(problem), MOST_MESSAGE_BYTES)
    status = _Status(code=code.value[0], message=message)
    if violations := _violations(problem.get("errors", ())):
        _add(status, "BadRequest", violations)
    metadata: Metadata = ()
    if retry_after_seconds is not None:
        seconds = int(retry_after_seconds)
        nanos = round((retry_after_seconds - seconds) * 1e9)
        _add(status, "RetryInfo", _RetryInfo(retry_delay={"seconds": seconds, "nanos": nanos}))
        pushback = retry_after_seconds <= MOST_PUSHBACK_SECONDS
        metadata = (("grpc-retry-pushback-ms", str(math.ceil(retry_after_seconds * 1000)) if pushback else "-1"),)
    return code, message, (*metadata, ("grpc-status-details-bin", status.SerializeToString()))


def _add(status: Any, name: str, detail: Any) -> None:
    status.details.add(type_url=f"type.googleapis.com/{ERRORS}.{name}", value=detail.SerializeToString())


def _violations(faults: Any) -> Any:
    """As many of the faults as there is room for; None without any."""
    found, left = _BadRequest(), MOST_VIOLATION_BYTES
    for fault in faults:
        description = f"expected {fault['expected']}, received {fault['received']}"
        if detail := fault.get("detail"):
            description += f" ({detail})"
        left -= len(fault["pointer"].encode()) + len(description.encode()) + 8
        if left < 0:
            break
        found.field_violations.add(field=fault["pointer"], description=description)
    return found if found.field_violations else None


def _within(text: str, most_bytes: int) -> str:
    """A text cut to so many bytes as it is sent: in trailers all but printable ASCII takes three for each."""
    sizes = (1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode()) for character in text)
    total = 0
    for i, size in enumerate(sizes):
        total += size
        if total > most_bytes:
            return f"{text[: max(0, i - 3)]}..."
    return text
