"""What every request gets, whatever becomes of it: an id, an answer, a line in the log, and time while draining."""

from __future__ import annotations

import asyncio
import logging
import re
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.draining import Drain
from service.identifiers import new_id
from service.logs import add_to_context
from service.problems import draining_problem, unexpected_problem, worded

logger = logging.getLogger("vitrine.api")
access = logging.getLogger("vitrine.access")

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
RETRY_AFTER_SECONDS = 5


class AnsweredRequests:
    """ASGI middleware. Answers 500 to what nothing else has caught, and 503 to what a `Drain` could not wait for."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app, self._drain = app, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        request_id = _request_id(scope)
        # Each request is a task of its own: what is added to its context ends with it.
        add_to_context(request_id=request_id)
        task = asyncio.current_task()
        assert task is not None
        status = 0
        is_stream = False

        async def send_and_note(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                if self._drain.draining:
                    # The next request of this client finds another server, or this one's successor.
                    headers.append((b"connection", b"close"))
                if is_stream := (b"content-type", b"text/event-stream") in [(n, v[:17]) for n, v in headers]:
                    self._drain.is_stream(task)
                message = {**message, "headers": headers}
            await send(message)

        self._drain.enter(task)
        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            logger.debug("the client went away before its request was read")
        except asyncio.CancelledError:
            if is_stream and self._drain.closing:
                task.uncancel()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif status == 0 and self._drain.out_of_time:
                task.uncancel()
                await _answer(scope, send_and_note, draining_problem(), [(b"retry-after", b"%d" % RETRY_AFTER_SECONDS)])
            else:
                raise
        except Exception:
            logger.exception("unexpected error at %s %s", scope["method"], _path(scope))
            if status:
                raise  # half an answer is out: all that is left is to break the connection
            await _answer(scope, send_and_note, unexpected_problem(request_id))
        finally:
            self._drain.leave(task)
            _log_access(scope, status, started)


def _request_id(scope: Scope) -> str:
    """The id that the client has given, where it is a sane one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return value.decode()
    return new_id()


async def _answer(
    scope: Scope, send: Send, problem: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    status, body, content_type = worded(problem, scope["path"])
    described = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": described})
    await send({"type": "http.response.body", "body": body})


def _log_access(scope: Scope, status: int, started: float) -> None:
    level = logging.INFO if status >= 500 else logging.DEBUG
    if not access.isEnabledFor(level):
        return
    model, version = scope.get("state", {}).get("served") or (None, None)
    milliseconds = (perf_counter() - started) * 1000
    line = f"{scope['method']} {_path(scope)} {status or 'unanswered'} {milliseconds:.1f} ms"
    access.log(level, "%s", line, extra={"model": model, "version": version})


def _path(scope: Scope) -> str:
    """The path as it was sent (percent-encoded, so that it cannot break a line), without its query."""
    return scope.get("raw_path", b"").decode("ascii", "backslashreplace").partition("?")[0]
