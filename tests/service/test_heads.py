"""HEAD of what has no end of its own. That of every other route is in test_operations_routes.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from service.draining import Drain
from service.entrance import Entrance
from service.heads import HeadsAsGets
from service.metrics import Metrics


def test_the_head_of_a_stream_of_events_is_answered_and_the_stream_ended() -> None:
    ended = asyncio.Event()

    async def stream(_request: Any) -> Any:
        async def events() -> AsyncIterator[str]:
            try:
                yield "data: 1\n\n"
                await asyncio.Event().wait()
            finally:
                ended.set()

        return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    metrics = Metrics()
    app = HeadsAsGets(Starlette(routes=[Route("/", stream)]))
    entrance = Entrance(app, Drain(grace_seconds=0, stop_seconds=0), metrics, body_seconds=10)

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(entrance), base_url="http://test") as client:
            response = await asyncio.wait_for(client.head("/"), 60)
            await asyncio.wait_for(ended.wait(), 60)
            return response

    response = asyncio.run(asked())

    assert (200, b"", "no-store") == (response.status_code, response.content, response.headers["Cache-Control"])
    assert response.headers["Content-Type"].startswith("text/event-stream")
    (sample,) = next(iter(metrics.requests.collect())).samples
    assert "200" == sample.labels["status"]
