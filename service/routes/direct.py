"""The hottest calls, answered without FastAPI's routing, which takes longer than a small network's prediction.

Their routes are registered with FastAPI too, for the OpenAPI document and for what finds routes by their path; what is
asked of them comes here first.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import answer_error

JSON = b"application/json"


class Answer(Response):
    """A body of a known type: what a `Response` is, made in a fifth of the time."""

    def __init__(self, body: bytes, media_type: bytes = JSON, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.status_code, self.body, self.background = 200, body, None
        self.raw_headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), *headers]


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """What answers `POST` at a path.

    Attributes:
        path: as FastAPI has it; parameters (`{model}`) take what is no slash.
        answer: from a scope, whose `path_params` are set, and what receives its body.
    """

    path: str
    answer: Callable[[Scope, Receive], Awaitable[Response]]

    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(self.path)))


class DirectRoutes:
    """ASGI middleware, within the entrance."""

    def __init__(self, app: ASGIApp, routes: Iterable[DirectRoute]) -> None:
        self._app = app
        self._exact = {route.path: route for route in routes if "{" not in route.path}
        self._patterns: dict[str, list[tuple[re.Pattern[str], DirectRoute]]] = {}
        for route in routes:
            if "{" in route.path:
                self._patterns.setdefault(_first(route.path), []).append((route.pattern(), route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._found(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            answer = await route.answer(scope, receive)
        except Exception as error:
            # Known errors are answered, by the table that serves every route; what is not known goes on from here.
            answer = await answer_error(Request(scope, receive), error)
        await answer(scope, receive, send)

    def _found(self, scope: Scope) -> DirectRoute | None:
        path: str = scope["path"]
        if (route := self._exact.get(path)) is not None:
            return route
        for pattern, route in self._patterns.get(_first(path), ()):
            if (found := pattern.fullmatch(path)) is not None:
                scope["path_params"] = found.groupdict()
                return route
        return None


def _first(path: str) -> str:
    """The first segment of a path."""
    return path[: path.find("/", 1)]
