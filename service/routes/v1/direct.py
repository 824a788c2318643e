"""V1 predictions without FastAPI's routing, which takes longer than a small network's prediction."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.routes.v1.routes import PLACES, V1, answered

_PREDICT = re.compile(r"/v1/models/(?P<model>[^/]+?)(?:/versions/(?P<version>[^/]+)|/labels/(?P<label>[^/]+))?:predict")


@dataclass(frozen=True, slots=True)
class _Template:
    """What metrics count a request under: the route that FastAPI has for it, and the OpenAPI document shows."""

    path: str


_TEMPLATES = {
    last: _Template(f"/v1/models/{{model}}{place}:predict")
    for last, place in zip(("model", "version", "label"), PLACES, strict=True)
}
"""By the last part of a path that names something."""


class DirectPredictions:
    """ASGI middleware, inside of those that every request passes."""

    def __init__(self, app: ASGIApp, v1: V1) -> None:
        self._app, self._v1 = app, v1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        found = _PREDICT.fullmatch(scope["path"]) if is_post and scope["path"].startswith("/v1/") else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["path_params"] = {name: value for name, value in found.groupdict().items() if value is not None}
        scope["route"] = _TEMPLATES[found.lastgroup or "model"]
        response = await answered(Request(scope, receive), self._v1.predict)
        await response(scope, receive, send)
