"""The hottest calls, answered without FastAPI's routing, which takes longer than a small network's prediction.

Their routes are registered with FastAPI too, for the OpenAPI document and for what finds routes by their path; what is
asked of them comes here first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import answer_error


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """A method and a path without parameters, and what answers it: a scope and what receives its body to JSON."""

    method: str
    path: str
    answer: Callable[[Scope, Receive], Awaitable[bytes]]


class DirectRoutes:
    """ASGI middleware, inside of every other."""

    def __init__(self, app: ASGIApp, routes: Iterable[DirectRoute]) -> None:
        self._app = app
        self._routes = {(route.method, route.path): route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            body = await route.answer(scope, receive)
        except Exception as error:
            # Known errors are answered, by the table that serves every route; what is not known goes on from here.
            response = await answer_error(Request(scope, receive), error)
            await response(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
