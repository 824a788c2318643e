"""HEAD wherever there is GET (RFC 9110, 9.3.2): monitors and load balancers ask so whether a server is there."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadsAsGets:
    """ASGI middleware: an application answers HEAD as GET. The HTTP server, whose scope still says HEAD, leaves out the
    body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked: Scope = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            # What it is counted under.
            scope["route"] = asked.get("route")
