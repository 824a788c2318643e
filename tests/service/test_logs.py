"""Log lines: what they say, what they never say, and that a user can name the one of their request."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Route, Router
from support import EIGHT, PATIENT, Server, wait_for

from service.draining import Drain
from service.entrance import Entrance
from service.logs import JsonFormatter, TextFormatter, add_context, log_context
from service.metrics import Metrics


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What our loggers write as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("test"))
    handler.addFilter(add_context)
    ours = logging.getLogger("vitrine")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield stream
    ours.removeHandler(handler)
    ours.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_line_has_its_time_level_logger_part_message_and_context(log: io.StringIO) -> None:
    with log_context(job="J", model="digits"):
        logging.getLogger("vitrine.some").info("fitted %d epochs", 3)

    (line,) = lines(log)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "vitrine.some",
        "part": "test",
        "message": "fitted 3 epochs",
        "job": "J",
        "model": "digits",
    }


def test_an_exception_is_a_field_and_passwords_are_hidden(log: io.StringIO) -> None:
    try:
        raise ValueError("no way to postgresql://me:hunter2@host/db")
    except ValueError:
        logging.getLogger("vitrine").exception("away: postgresql://me:hunter2@host/db")

    (line,) = lines(log)
    assert "Traceback" in line["exception"]
    assert "hunter2" not in log.getvalue()
    assert line["message"] == "away: postgresql://me:***@host/db"


def test_text_lines_are_for_people() -> None:
    record = logging.LogRecord("vitrine.pool", logging.WARNING, "", 0, "slow: %s", ("x",), None)
    record.request_id = "R"

    line = TextFormatter("api").format(record)

    assert line.endswith("Z WARNING api vitrine.pool: slow: x [request_id=R]")


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-1.2:3", True), ("x" * 129, False), ("a b", False), ("", False), ('"}{', False)]
)
def test_a_sane_request_id_is_taken_and_another_replaced(sent: str, kept: bool) -> None:
    async def nothing(_request: Any) -> Any:
        from starlette.responses import Response

        return Response()

    received = asyncio.run(_ask(nothing, {"X-Request-Id": sent})).headers["X-Request-Id"]

    assert kept == (received == sent)
    assert received


def test_an_unexpected_error_is_told_with_its_id_and_logged_once(log: io.StringIO) -> None:
    async def broken(_request: Any) -> Any:
        raise RuntimeError("secret inside")

    response = asyncio.run(_ask(broken, {"X-Request-Id": "R1"}))

    error, access = lines(log)
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert response.json()["request_id"] == "R1"
    assert "secret" not in response.text
    assert (error["level"], error["request_id"]) == ("ERROR", "R1")
    assert "secret inside" in error["exception"]
    assert (access["level"], access["logger"], access["request_id"]) == ("INFO", "vitrine.access", "R1")
    assert access["message"].startswith("GET /a%20b 500 ")


async def _ask(endpoint: Any, headers: dict[str, str]) -> httpx.Response:
    # Without the layer of Starlette that answers errors by itself.
    app = Entrance(
        Router([Route("/{rest:path}", endpoint)]), Drain(grace_seconds=0, stop_seconds=0), Metrics(), body_seconds=10
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get("/a%20b?inputs=1", headers=headers)


def test_every_process_logs_json_with_the_id_of_the_request(narrow: Server) -> None:
    answer = narrow.client.post(
        "/predict", json={"model": "diabetes", "inputs": [[0.123456, *PATIENT[1:]]]}, headers={"X-Request-Id": "R9"}
    )
    wait_for(lambda: '"request_id":"R9"' in narrow.log.replace(" ", ""))

    api = [json.loads(line) for line in narrow.log.splitlines()]
    # TensorFlow's native code writes lines of its own in between.
    written = (narrow.settings.logs_directory / "compute.log").read_text().splitlines()
    compute = [json.loads(line) for line in written if line.startswith("{")]
    (access,) = [line for line in api if line.get("request_id") == "R9"]
    assert answer.headers["X-Request-Id"] == "R9"
    assert (access["model"], access["version"], access["part"]) == ("diabetes", "1", "api")
    assert access["message"].startswith("POST /predict 200 ")
    assert any(line["logger"].startswith("uvicorn") for line in api)
    assert any(line["message"].startswith("ready, TensorFlow") for line in compute)
    assert {"compute"} == {line["part"] for line in compute}
    assert "0.123456" not in narrow.log


def test_what_fails_in_the_compute_process_is_logged_there_under_the_request_s_id(server: Server) -> None:
    body = {"model": "digits", "inputs": [EIGHT], "method": "expected-gradients", "budget": 1}

    answer = server.client.post("/explain", json=body, headers={"X-Request-Id": "R-compute"})

    log = (server.settings.logs_directory / "compute.log").read_text()
    assert answer.status_code == 422
    assert "[request_id=R-compute]" in log
