"""SIGTERM: what was accepted is answered, and the process exits with status 0 within its bound."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
from support import EIGHT, PATIENT, Server, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from service.draining import SPARE_SECONDS, Drain
from service.entrance import Entrance
from service.metrics import Metrics
from service.settings import Settings


@pytest.mark.long
def test_sigterm_under_load_breaks_nothing_that_was_accepted(
    tmp_path: Path, digits_artifact: Artifact, diabetes_artifact: Artifact
) -> None:
    settings = Settings(home=tmp_path, port=free_port(), refresh_ms=100, drain_seconds=2, stop_seconds=5)
    settings.prepare_home()
    for model, artifact in (("digits", digits_artifact), ("diabetes", diabetes_artifact)):
        install(settings, artifact, model, f"JOB-{model}")
        point(settings, model, 1)
    slow = {"model": "digits", "inputs": [EIGHT], "method": "expected-gradients", "tolerance": 1e-9}
    draining = threading.Event()

    with running(settings, "serve") as server, ThreadPoolExecutor(8) as threads:
        explained = {**slow, "deadline_ms": 10, "strict": False}
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        wait_for(lambda: server.client.post("/explain", json=explained).status_code == 200)
        finishing = threads.submit(_post, server, "/explain", {**slow, "deadline_ms": 3000})
        wait_for(lambda: _connections(server) >= 2)
        endless = threads.submit(_post, server, "/explain", {**slow, "deadline_ms": 600_000})
        statuses: list[int] = []
        predicting = [threads.submit(_predict_until, server, draining, statuses) for _ in range(4)]
        wait_for(lambda: _connections(server) >= 7 and len(statuses) >= 20)

        server.process.send_signal(signal.SIGTERM)
        started = monotonic()
        readiness = wait_for(lambda: (r := server.client.get("/health/ready")).status_code == 503 and r)
        draining.set()
        status = server.process.wait(60)
        took_seconds = monotonic() - started

    broken = [future.exception() for future in predicting]
    assert broken == [None] * 4
    assert (readiness.json()["status"], readiness.headers["Retry-After"]) == ("draining", "5")
    assert readiness.headers["Connection"] == "close"
    assert {200} == set(statuses)
    assert len(statuses) >= 40
    assert finishing.result().status_code == 200
    assert (endless.result().status_code, endless.result().json()["type"]) == (503, "/problems/draining")
    assert endless.result().headers["Retry-After"] == "5"
    assert status == 0
    assert took_seconds < settings.drain_seconds + settings.stop_seconds + 2 * SPARE_SECONDS


def _post(server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.client.base_url}{path}", json=body, timeout=60)


def _connections(server: Server) -> int:
    """Connections to the server that are established."""
    port = f"{server.settings.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[1].endswith(f":{port}") and line.split()[3] == "01")


def _predict_until(server: Server, draining: threading.Event, statuses: list[int]) -> None:
    """Predicts without pause until readiness says that it drains, and five times more, as a late balancer would."""
    with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
        left = 5
        while left:
            left -= draining.is_set()
            statuses.append(client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]}).status_code)


def test_a_request_that_does_not_finish_in_time_is_answered_503() -> None:
    async def never(_request: Any) -> Any:
        await asyncio.Event().wait()

    response, closed = asyncio.run(_drained(never))

    assert (response.status_code, response.json()["title"]) == (503, "The server is stopping")
    assert closed


def test_a_stream_without_an_end_is_ended_when_nothing_new_is_accepted() -> None:
    async def stream(_request: Any) -> Any:
        async def events() -> AsyncIterator[str]:
            yield "data: 1\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(events(), media_type="text/event-stream")

    response, closed = asyncio.run(_drained(stream, stop_seconds=1000))

    assert (response.status_code, response.text) == (200, "data: 1\n\n")
    assert closed


async def _drained(endpoint: Callable[[Any], Any], stop_seconds: float = 0) -> tuple[httpx.Response, bool]:
    """The answer to a request during which draining begins, and whether new ones were refused then."""
    drain = Drain(grace_seconds=0, stop_seconds=stop_seconds)
    app = Entrance(Starlette(routes=[Route("/", endpoint)]), drain, Metrics(), body_seconds=10)
    closed = asyncio.Event()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        asking = asyncio.create_task(client.get("/"))
        for _ in range(10):
            await asyncio.sleep(0)
        drain.begin(with_grace=True, close=closed.set)
        return await asyncio.wait_for(asking, 30), closed.is_set()


def test_a_body_that_is_late_while_what_came_of_it_is_worked_on_is_answered_408() -> None:
    async def slow(request: Any) -> Any:
        await anext(request.stream())
        await asyncio.Event().wait()  # a disk that takes what has come

    async def halves() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def asked() -> httpx.Response:
        drain = Drain(grace_seconds=0, stop_seconds=0)
        app = Entrance(Starlette(routes=[Route("/", slow, methods=["POST"])]), drain, Metrics(), body_seconds=0.05)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await asyncio.wait_for(client.post("/", content=halves()), 30)

    response = asyncio.run(asked())

    assert (response.status_code, response.json()["type"]) == (408, "/problems/request-too-slow")


def test_an_idle_connection_is_kept_for_as_long_as_is_set(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port=free_port(), keep_alive_seconds=2)

    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/live"))
        idle = HTTPConnection("127.0.0.1", settings.port, timeout=120)
        idle.request("GET", "/health/live")
        idle.getresponse().read()
        started = monotonic()
        ended = idle.sock.recv(1)
        lasted = monotonic() - started
        idle.close()

    assert ended == b""
    assert lasted > 1.5
