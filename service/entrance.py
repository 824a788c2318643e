"""What every request passes, whatever it asks: it is counted and timed, has an id, is taken in within bounds, and is
answered whatever becomes of it.

uvicorn waits for ever for a body that does not come, and reads what is left of one that was refused; here both are
bounded. One layer does it all, for each costs as much as a tenth of a small network's prediction.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import Fault
from models.rows import describe
from service.deadlines import Deadlines
from service.draining import Drain
from service.errors import BodyTooSlow, InvalidRequest, OutOfTime
from service.identifiers import new_id
from service.logs import add_to_context
from service.metrics import CLIENT_GONE, Metrics
from service.problems import draining_problem, problem_document, unexpected_problem, worded

logger = logging.getLogger("vitrine.api")
access = logging.getLogger("vitrine.access")

LINGER_SECONDS = 2.0
"""For so long the rest of a refused body is read and thrown away, so that its sender can read the refusal: closing at
once resets the connection, and the answer with it."""
RETRY_AFTER_SECONDS = 5
TIMEOUT_HEADER = "X-Request-Timeout-Ms"
_TIMEOUT_HEADER = TIMEOUT_HEADER.lower().encode()
_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_CLOSE = (b"connection", b"close")
_EVENTS = b"text/event-stream"
_HANDLE_CLOSED = "the handler is closed"


class Entrance:
    """The outermost layer of the ASGI application.

    An unexpected error is answered 500, and what a `Drain` could not wait for 503.

    Args:
        body_seconds: from the end of the head to the end of the body.
        upload_seconds: the same by the pattern of a path, where bodies are files; the route itself watches that they go
            on arriving.
    """

    def __init__(
        self,
        app: ASGIApp,
        drain: Drain,
        metrics: Metrics,
        *,
        body_seconds: float,
        upload_seconds: Mapping[str, float] = {},  # never changed
    ) -> None:
        self._app, self._drain, self._metrics = app, drain, metrics
        self._bodies = Deadlines(body_seconds)
        self._uploads = {re.compile(pattern): Deadlines(seconds) for pattern, seconds in upload_seconds.items()}
        self._is_upload = re.compile("|".join(f"(?:{pattern})" for pattern in upload_seconds) or "(?!)").fullmatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, metrics, drain = perf_counter(), self._metrics, self._drain
        task = asyncio.current_task()
        assert task is not None
        exchange = Exchange(receive, send, task, drain, self._deadlines(scope["path"]))
        timeout = exchange.read_head(scope)
        # Each request is a task of its own: what is added to its context ends with it.
        add_to_context(request_id=exchange.request_id)
        metrics.in_flight.begin(scope)
        drain.enter(task)
        try:
            if timeout is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await self._within(timeout, scope, exchange)
        except ClientDisconnect:
            exchange.status = exchange.status or CLIENT_GONE
        except asyncio.CancelledError:
            if exchange.is_stream and drain.closing:
                task.uncancel()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif exchange.status == 0 and drain.out_of_time:
                task.uncancel()
                retry = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)
                await _answer(scope, exchange, draining_problem(), [retry])
            elif exchange.status == 0 and exchange.is_late:
                # Its time was up while what had arrived of it was being worked on.
                task.uncancel()
                await _answer(scope, exchange, problem_document(BodyTooSlow(exchange.body_seconds)))
            else:
                raise
        except Exception:
            logger.exception("unexpected error at %s %s", scope["method"], _path(scope))
            if exchange.status:
                raise  # half an answer is out: all that is left is to break the connection
            await _answer(scope, exchange, unexpected_problem(exchange.request_id))
        finally:
            drain.leave(task)
            exchange.end()
            metrics.note_answer(scope, exchange.status or 500, perf_counter() - started)
            _log_access(scope, exchange.status, started)

    def _deadlines(self, path: str) -> Deadlines:
        if self._is_upload(path) is None:
            return self._bodies
        return next(deadlines for pattern, deadlines in self._uploads.items() if pattern.fullmatch(path))

    async def _within(self, timeout: str, scope: Scope, exchange: Exchange) -> None:
        """Answers within the time that the client gives; what is not answered then is dropped."""
        try:
            timeout_ms = _milliseconds(timeout)
        except InvalidRequest as error:
            await _answer(scope, exchange, problem_document(error))
            return
        limit = asyncio.timeout(timeout_ms / 1000)
        try:
            async with limit:
                # A turn of the event loop, in which a time that is up already ends this before anything is computed.
                await asyncio.sleep(0)
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            if limit.expired() and exchange.is_stream:
                # It has been answered all that happened in its time.
                await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})
            elif not limit.expired():
                raise
            elif exchange.status:
                # Half an answer is out: all that is left is to break the connection.
                logger.warning("%s %s: its time was up in the middle of its answer", scope["method"], _path(scope))
                raise ClientDisconnect from None
            else:
                await _answer(scope, exchange, problem_document(OutOfTime(timeout_ms)))


class Exchange:
    """One request and its answer. On the way of every prediction, so that each microsecond counts.

    Attributes:
        is_late: whether the time for its body has passed before it was here.
        status: of the answer; 0 until it begins.
        is_stream: whether the answer is a stream of events, which has no end of its own.
    """

    __slots__ = (
        "_deadlines", "_drain", "_expects_continue", "_has_body", "_is_waiting", "_linger", "_receive", "_rest",
        "_send", "_task", "is_late", "is_stream", "request_id", "status",
    )  # fmt: skip

    def __init__(
        self, receive: Receive, send: Send, task: asyncio.Task[Any], drain: Drain, deadlines: Deadlines
    ) -> None:
        self._receive, self._send, self._task, self._drain, self._deadlines = receive, send, task, drain, deadlines
        self._is_waiting = self.is_late = self._has_body = self._linger = self._expects_continue = False
        self._rest: asyncio.Task[Message] | None = None
        self.request_id = ""
        self.status = 0
        self.is_stream = False

    @property
    def body_seconds(self) -> float:
        """The time for its body."""
        return self._deadlines.seconds

    def read_head(self, scope: Scope) -> str | None:
        """Takes note of what the headers say. Returns what they give as the time for the whole request, if anything.

        The request's id is the one that the client has given, where that is a sane one, else a new one.
        """
        timeout = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                if _SANE_ID.fullmatch(value):
                    self.request_id = value.decode()
            elif name == b"expect":
                self._expects_continue = value.lower() == b"100-continue"
            elif name == _TIMEOUT_HEADER:
                timeout = value.decode("latin-1")
        self.request_id = self.request_id or new_id()
        return timeout

    async def receive(self) -> Message:
        if self._has_body:
            return await self._receive()
        # asyncio.timeout() does this with ten times the overhead.
        if not self._is_waiting:
            self._is_waiting = True
            self._deadlines.begin(self._be_late)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self.is_late:
                raise
            self._task.uncancel()
            raise BodyTooSlow(self.body_seconds) from None
        self._note(message)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self._has_body:
                await self._look_for_the_rest()
            message = self._begun(message)
        elif self._linger and message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._throw_the_rest_away()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        try:
            await self._send(message)
        except RuntimeError as error:
            # uvloop closes a connection that its client has reset at once, and tells uvicorn with the next turn.
            if _HANDLE_CLOSED not in str(error):
                raise
            if message["type"] == "http.response.start":
                self.status = 0
            raise ClientDisconnect from None

    def end(self) -> None:
        """Nothing is waited for any more."""
        if self._is_waiting:
            self._is_waiting = False
            self._deadlines.end(self._be_late)

    def _begun(self, message: Message) -> Message:
        """The beginning of the answer, with what every answer has."""
        self.end()
        self.status = message["status"]
        headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
        self._linger = not self._has_body
        # The next request of this client finds another server while draining, or this one's successor.
        if self._linger or self._drain.draining:
            headers.append(_CLOSE)
        if begins_events(message):
            self.is_stream = True
            self._drain.is_stream(self._task)
        return {**message, "headers": headers}

    def _be_late(self) -> None:
        self._is_waiting, self.is_late = False, True
        self._task.cancel()

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._has_body = True
            self.end()

    async def _look_for_the_rest(self) -> None:
        """An answer that did not need the body: mostly it is here, and the connection can go on."""
        if self._expects_continue:
            return  # to ask would be to invite it
        self._rest = asyncio.create_task(self._next())
        await asyncio.sleep(0)
        if self._rest.done():
            self._note(self._rest.result())
            self._rest = None

    async def _next(self) -> Message:
        return await self._receive()

    async def _throw_the_rest_away(self) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._has_body:
                    waiting, self._rest = self._rest, None
                    self._note(await (waiting if waiting is not None else self._receive()))
        except TimeoutError:
            pass  # whoever still sends now is cut off
        finally:
            if self._rest is not None:
                self._rest.cancel()


def begins_events(message: Message) -> bool:
    """Whether an answer begins with it that is a stream of events."""
    if message["type"] != "http.response.start":
        return False
    for name, value in message.get("headers", ()):
        if name == b"content-type":
            return value.startswith(_EVENTS)
    return False


async def _answer(
    scope: Scope, exchange: Exchange, problem: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    status, body, content_type = worded(problem, scope["path"])
    described = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *(headers or [])]
    await exchange.send({"type": "http.response.start", "status": status, "headers": described})
    await exchange.send({"type": "http.response.body", "body": body})


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


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InvalidRequest([Fault(f"header {TIMEOUT_HEADER}", "a positive number of milliseconds", describe(text))])
    return value
