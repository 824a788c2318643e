"""HEAD wherever there is GET (RFC 9110, 9.3.2): monitors and load balancers ask so whether a server is there."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.entrance import begins_events


class HeadsAsGets:
    """ASGI middleware: an application answers HEAD as GET. The HTTP server, whose scope still says HEAD, leaves out the
    body. A stream of events, which has no end of its own, ends with its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked: Scope = {**scope, "method": "GET"}
        task, has_ended = asyncio.current_task(), False
        assert task is not None

        async def send_head(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            await send(message)
            if begins_events(message):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                has_ended = True
                task.cancel()

        try:
            await self._app(asked, receive, send_head)
        except asyncio.CancelledError:
            if not has_ended:
                raise
            task.uncancel()
        finally:
            # What it is counted under.
            scope["route"] = asked.get("route")
