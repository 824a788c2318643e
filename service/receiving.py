"""How requests are taken in: in time, of bounded size, and given up when nobody waits for the answer any more.

uvicorn waits for ever for a head or a body that does not come, keeps heads of any length, and reads what is left of a
body that was refused. The protocol below bounds the head; the middleware bounds the rest.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from models.errors import Fault
from models.rows import describe
from service.errors import BodyTooSlow, InvalidRequest, OutOfTime
from service.problems import CONTENT_TYPE, problem_document, problem_response

T = TypeVar("T")

HEAD_LIMIT_BYTES = 64 * 1024
LINGER_SECONDS = 2.0
"""For so long the rest of a refused body is read and thrown away, so that its sender can read the refusal: closing at
once resets the connection, and the answer with it."""
TIMEOUT_HEADER = "X-Request-Timeout-Ms"
_TIMEOUT_HEADER = TIMEOUT_HEADER.lower().encode()
_UNREAD_ANSWER_SECONDS = 60
_PROTOCOL_PROBLEMS = {
    400: ("not-readable", "The request is not HTTP"),
    408: ("request-too-slow", "The request took too long to arrive"),
    431: ("head-too-large", "The head of the request is too large"),
}


def protocol_within(head_seconds: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, for `uvicorn.run(http=...)`, with a limit to how long and how large a head may be.

    Args:
        head_seconds: from the connection, or from the first byte after an answer, to the end of the head.
    """

    class BoundedProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connection = transport.get_extra_info("socket")
            if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
                # A client that never reads its answer: the kernel gives it up.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_ANSWER_SECONDS * 1000)
            self._timer = self.loop.call_later(head_seconds, self._refuse, 408)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
                return
            # Between two requests, or within a head.
            if self._timer is None:
                self._timer = self.loop.call_later(head_seconds, self._refuse, 408)
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431)

        def on_headers_complete(self) -> None:
            self._stop_timer()
            self._head_bytes = 0
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, msg)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: int, detail: str | None = None) -> None:
            self._stop_timer()
            if self.transport.is_closing():
                return
            if status != 408 or self._head_bytes:
                slug, title = _PROTOCOL_PROBLEMS[status]
                body = orjson.dumps(
                    {"type": f"/problems/{slug}", "title": title, "status": status, "detail": detail or f"{title}."}
                )
                self.transport.write(
                    b"HTTP/1.1 %d Refused\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                    % (status, CONTENT_TYPE.encode(), len(body), body)
                )
            self.transport.close()

    return BoundedProtocol


class Reception:
    """ASGI middleware: bounds how long a body may take, honours `X-Request-Timeout-Ms`, and answers early refusals
    (a body that is too large) so that the client can read them.

    Args:
        body_seconds: from the end of the head to the end of the body.
        upload_seconds: the same by the pattern of a path, where bodies are files; the route itself watches that they go
            on arriving.
    """

    def __init__(self, app: ASGIApp, body_seconds: float, upload_seconds: Mapping[str, float]) -> None:
        self._app, self._body_seconds, self._upload_seconds = app, body_seconds, upload_seconds
        self._is_upload = re.compile("|".join(f"(?:{pattern})" for pattern in upload_seconds)).fullmatch

    def _seconds_of(self, path: str) -> float:
        if self._is_upload(path) is None:
            return self._body_seconds
        return next(seconds for pattern, seconds in self._upload_seconds.items() if re.fullmatch(pattern, path))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._seconds_of(scope["path"]))
        asked = None
        for name, value in scope["headers"]:
            if name == b"expect":
                exchange.expects_continue = value.lower() == b"100-continue"
            elif name == _TIMEOUT_HEADER:
                asked = value.decode("latin-1")
        if asked is None:
            await self._app(scope, exchange.receive, exchange.send)
            return
        try:
            timeout_ms = _milliseconds(asked)
        except InvalidRequest as error:
            await problem_response(problem_document(error), path=scope["path"])(scope, exchange.receive, exchange.send)
            return
        limit = asyncio.timeout(timeout_ms / 1000)
        try:
            async with limit:
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            if not limit.expired() or exchange.answering:
                raise
            late = problem_response(problem_document(OutOfTime(timeout_ms)), path=scope["path"])
            await late(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer. On the way of every prediction, so that each microsecond counts."""

    __slots__ = (
        "_body_seconds", "_has_body", "_is_late", "_linger", "_receive", "_send", "_timer", "_waiting",
        "answering", "expects_continue",
    )  # fmt: skip

    def __init__(self, receive: Receive, send: Send, body_seconds: float) -> None:
        self._receive, self._send = receive, send
        self._body_seconds = body_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False
        self._has_body = False
        self._waiting: asyncio.Task[Message] | None = None
        self._linger = False
        self.expects_continue = False
        self.answering = False

    async def receive(self) -> Message:
        if self._has_body:
            return await self._receive()
        task = asyncio.current_task()
        assert task is not None
        # asyncio.timeout() does this with ten times the overhead.
        if self._timer is None:
            self._timer = task.get_loop().call_later(self._body_seconds, self._cancel, task)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._is_late:
                raise
            task.uncancel()
            raise BodyTooSlow(self._body_seconds) from None
        self._note(message)
        return message

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self._is_late = True
        task.cancel()

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._has_body = True
            if self._timer is not None:
                self._timer.cancel()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answering = True
            if self._timer is not None:
                self._timer.cancel()
            if not self._has_body:
                await self._look_for_the_rest()
            if not self._has_body:
                self._linger = True
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        if self._linger and message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._throw_the_rest_away()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _look_for_the_rest(self) -> None:
        """An answer that did not need the body: mostly it is here, and the connection can go on."""
        if self.expects_continue:
            return  # to ask would be to invite it
        self._waiting = asyncio.create_task(self._next())
        await asyncio.sleep(0)
        if self._waiting.done():
            self._note(self._waiting.result())
            self._waiting = None

    async def _next(self) -> Message:
        return await self._receive()

    async def _throw_the_rest_away(self) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._has_body:
                    waiting, self._waiting = self._waiting, None
                    self._note(await (waiting if waiting is not None else self._receive()))
        except TimeoutError:
            pass  # whoever still sends now is cut off
        finally:
            if self._waiting is not None:
                self._waiting.cancel()


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is given up when the client disconnects meanwhile.

    Args:
        receive: of a request whose body has been read.

    Raises:
        ClientDisconnect: when the client is gone.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnection(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InvalidRequest([Fault(f"header {TIMEOUT_HEADER}", "a positive number of milliseconds", describe(text))])
    return value
