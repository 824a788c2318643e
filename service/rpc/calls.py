"""A call of gRPC as the exchange of HTTP that it is, so that it gets what every request gets: an id, measures, a line
in the log, time while draining, and a problem document for every error. Its outcome is then said in gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
from starlette.types import ASGIApp, Message, Scope

from service.entrance import TIMEOUT_HEADER
from service.metrics import GRPC_STREAM
from service.rpc.outcome import Metadata, refusal

HEADERS = (b"x-request-id", b"cache-status")
"""What is told behind every answer, in its trailing metadata."""
_TIMEOUT = TIMEOUT_HEADER.lower()


@dataclass(frozen=True, slots=True)
class Call:
    """What a method has beside its message, in the scope's extensions under `grpc`.

    Attributes:
        allowed_seconds: until the client's deadline, when the call began; None where it has none.
        seconds_left: until it, now.
        messages: of the client, where it sends more than one.
        write: sends a message before the last.
    """

    allowed_seconds: float | None
    seconds_left: Callable[[], float | None]
    messages: AsyncIterator[bytes]
    write: Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Template:
    """What a call is counted under."""

    path: str


class Calls(grpc.GenericRpcHandler):
    """Finds what answers a method.

    Args:
        app: answers calls, within the entrance that every request passes. What it sends as a body is the message.
        unary: the methods of one message and one answer, as paths.
        streams: those of many and many.
    """

    def __init__(self, app: ASGIApp, unary: frozenset[str], streams: frozenset[str]) -> None:
        self._app = app
        self._handlers = {path: grpc.unary_unary_rpc_method_handler(self._unary(path)) for path in unary}
        for path in streams:
            self._handlers[path] = grpc.stream_stream_rpc_method_handler(self._streamed(path, _Template(path)))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        path = handler_call_details.method
        handler = self._handlers.get(path)
        # What there is not is answered as a stream, which any call can be, and counted under no name of its own.
        return handler or grpc.stream_stream_rpc_method_handler(self._streamed(path, None))

    def _unary(self, path: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        template = _Template(path)

        async def answer(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            exchange = _Exchange(body)
            await self._app(_scope(path, template, context, _nothing()), exchange.receive, exchange.send)
            await _end(exchange, context)
            return exchange.body

        return answer

    def _streamed(
        self, path: str, template: _Template | None
    ) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
        async def answer(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            exchange = _Exchange(b"")
            scope = _scope(path, template, context, messages)
            scope["extensions"][GRPC_STREAM] = {}
            await self._app(scope, exchange.receive, exchange.send)
            await _end(exchange, context)

        return answer


class _Exchange:
    """What an application receives and sends."""

    __slots__ = ("_has_body", "_request", "body", "headers", "status")

    def __init__(self, request: bytes) -> None:
        self._request, self._has_body = request, False
        self.status, self.headers, self.body = 0, dict[bytes, bytes](), b""

    async def receive(self) -> Message:
        if self._has_body:
            # A client that goes away cancels the call.
            await asyncio.Event().wait()
        self._has_body = True
        return {"type": "http.request", "body": self._request, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message.get("body", b"")


def _scope(
    path: str,
    template: _Template | None,
    context: grpc.aio.ServicerContext[bytes, bytes],
    messages: AsyncIterator[bytes],
) -> Scope:
    call = Call(context.time_remaining(), context.time_remaining, messages, context.write)
    metadata: Any = context.invocation_metadata() or ()
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in metadata
            # Calls have deadlines of their own, which gRPC keeps.
            if name != _TIMEOUT
        ],
        "extensions": {"grpc": call},
    }
    if template is not None:
        scope["route"] = template
    return scope


async def _end(exchange: _Exchange, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    """Ends a call, with an error where the exchange had one."""
    if exchange.status != 200 and not exchange.body:
        # Nobody waits for this answer.
        raise asyncio.CancelledError
    told: Metadata = tuple(
        (name.decode(), exchange.headers[name].decode()) for name in HEADERS if name in exchange.headers
    )
    if exchange.status == 200:
        context.set_trailing_metadata(told)
        return
    retry_after = exchange.headers.get(b"retry-after")
    code, message, metadata = refusal(orjson.loads(exchange.body), float(retry_after) if retry_after else None)
    await context.abort(code, message, (*told, *metadata))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
