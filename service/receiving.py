"""How heads of requests are taken in: in time and of bounded size; and requests given up when their client is gone.

uvicorn waits for ever for a head that does not come, and keeps heads of any length. Bodies are bounded by the entrance.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import worded

T = TypeVar("T")

HEAD_LIMIT_BYTES = 64 * 1024
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
                problem = {
                    "type": f"/problems/{slug}", "title": title, "status": status, "detail": detail or f"{title}.",
                }  # fmt: skip
                # As far as the address has come: of a client that speaks a protocol, it says which.
                said, body, content_type = worded(problem, getattr(self, "url", b"").decode("latin-1"))
                self.transport.write(
                    b"HTTP/1.1 %d Refused\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                    % (said, content_type.encode(), len(body), body)
                )
            self.transport.close()

    return BoundedProtocol


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
