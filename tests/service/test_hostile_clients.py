"""Clients that are slow, huge, gone or odd, at a real server. None of them may hurt the others."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import orjson
import pytest
from support import (
    COMPUTE,
    PATIENT,
    Server,
    child_processes,
    cpu_ticks,
    free_port,
    install,
    point,
    running,
    succeeds,
    wait_for,
)

from models.artifact import Artifact
from service.settings import Settings

ROW = {"model": "diabetes", "inputs": [PATIENT]}
MIB = 2**20


@pytest.fixture(scope="module")
def impatient(
    tmp_path_factory: pytest.TempPathFactory, diabetes_artifact: Artifact, breast_cancer_artifact: Artifact
) -> Iterator[Server]:
    """A server that waits half a second for requests, and takes many rows."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        port=free_port(),
        refresh_ms=100,
        receive_timeout_ms=500,
        max_rows=20_000,
    )
    settings.prepare_home()
    for model, artifact in (("diabetes", diabetes_artifact), ("breast-cancer", breast_cancer_artifact)):
        point(settings, model, install(settings, artifact, model, f"JOB-{model}"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        yield server


class Raw:
    """A connection over which anything can be sent."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.settings.port), timeout=120)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._file.read(int(headers["content-length"]))

    def is_closed(self) -> bool:
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def head(length: int | None, *extra: str) -> bytes:
    lines = ["POST /predict HTTP/1.1", "Host: test", "Content-Type: application/json", *extra]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def request(document: Any = ROW, *extra: str) -> bytes:
    body = orjson.dumps(document)
    return head(len(body), *extra) + body


def rss_mib(server: Server) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def serves(server: Server) -> bool:
    return server.client.post("/predict", json=ROW).status_code == 200


@pytest.fixture(autouse=True)
def others_are_served_and_nothing_is_traced(impatient: Server) -> Iterator[None]:
    yield
    assert serves(impatient)
    assert "Traceback" not in impatient.log


def test_a_body_of_100_mb_is_refused_at_once_without_being_read(impatient: Server) -> None:
    before = rss_mib(impatient)
    with Raw(impatient) as client:
        client.send(head(100 * MIB))
        status, headers, body = client.answer()  # before a byte of the body was sent

    assert (413, "close", "/problems/body-too-large") == (status, headers["connection"], json.loads(body)["type"])
    assert rss_mib(impatient) < before + 10


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_100_mb_all_the_same_reads_the_refusal_and_memory_stays_flat(
    impatient: Server, chunked: bool
) -> None:
    before = rss_mib(impatient)
    content = (b" " * MIB for _ in range(100)) if chunked else b" " * (100 * MIB)

    response = httpx.post(
        f"{impatient.client.base_url}/predict",
        content=content,
        headers={"Content-Type": "application/json"},
        timeout=60,
    )

    assert (413, "/problems/body-too-large") == (response.status_code, response.json()["type"])
    # What a body may hold, and its copies, and no more.
    assert rss_mib(impatient) < before + 3 * impatient.settings.body_limit_bytes / MIB


def test_a_refusal_of_a_body_that_has_come_keeps_the_connection(impatient: Server) -> None:
    with Raw(impatient) as client:
        client.send(request(ROW, "Content-Encoding: br"))
        refused = client.answer()
        client.send(request())
        answered = client.answer()

    assert (415, 200) == (refused[0], answered[0])
    assert "connection" not in refused[1]


@pytest.mark.parametrize("beginning", [b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: test\r\n"])
def test_a_head_that_does_not_come_is_408(impatient: Server, beginning: bytes) -> None:
    with Raw(impatient) as client:
        client.send(beginning)
        status, headers, body = client.answer()
        closed = client.is_closed()

    assert (408, "/problems/request-too-slow", True) == (status, json.loads(body)["type"], closed)
    assert "application/problem+json" == headers["content-type"]


def test_a_head_that_trickles_is_cut_off_however_busy_its_client_looks(impatient: Server) -> None:
    with Raw(impatient) as client:
        started = monotonic()
        client.socket.settimeout(0.05)
        answer = b""
        client.send(b"GET /health/live HTTP/1.1\r\n")
        while not answer and monotonic() < started + 20:
            client.send(b"X: y\r\n")
            try:
                answer = client.socket.recv(1000)
            except TimeoutError:
                continue

    assert answer.startswith(b"HTTP/1.1 408")


def test_a_connection_without_a_request_is_closed(impatient: Server) -> None:
    with Raw(impatient) as client:
        assert client.is_closed()


def test_a_body_that_trickles_is_408(impatient: Server) -> None:
    with Raw(impatient) as client:
        client.send(head(1000) + b"{")
        status, headers, body = client.answer()

    assert (408, "/problems/request-too-slow") == (status, json.loads(body)["type"])
    assert "close" == headers["connection"]


def test_a_head_of_any_length_is_not_kept(impatient: Server) -> None:
    with Raw(impatient) as client:
        client.send(b"GET /health/live HTTP/1.1\r\nX: " + b"y" * MIB)
        status, _, _ = client.answer()

    assert 431 == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /v2/models HTTP/1.1\r\nHost: test\r\n", 408),
        (b"GET /v1/models/x?q HTTP/1.1\r\nX: " + b"y" * MIB, 400),
        (b"POST /v2/models/x/infer HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}", 400),
        (b"POST /v2/models/x/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", 400),
    ],
    ids=["slow", "large", "two lengths", "no chunk"],
)
def test_what_is_no_request_under_a_protocol_s_path_is_refused_in_its_form(
    impatient: Server, sent: bytes, status: int
) -> None:
    with Raw(impatient) as client:
        client.send(sent)
        said, headers, body = client.answer()

    assert (status, "application/json") == (said, headers["content-type"])
    assert ["error"] == list(json.loads(body))


def test_a_hundred_slow_clients_hold_up_nobody(impatient: Server) -> None:
    slow = [Raw(impatient) for _ in range(100)]
    for client in slow:
        client.send(head(1000) + b"{")

    assert all(serves(impatient) for _ in range(20))
    assert {408} == {client.answer()[0] for client in slow}
    for client in slow:
        client.socket.close()


def test_clients_that_go_in_mid_request_or_before_the_answer_leave_no_trace(impatient: Server) -> None:
    before = status_count(impatient, "/predict", "499")
    for beginning in (head(1000), head(1000) + b"{", head(None) + b'5\r\n{"mod\r\n'):
        with Raw(impatient) as client:
            client.send(beginning)
    for _ in range(20):
        with Raw(impatient) as client:
            client.send(request())

    wait_for(lambda: status_count(impatient, "/predict", "499") == before + 3)


def status_count(server: Server, route: str, status: str) -> float:
    lines = [
        line
        for line in server.client.get("/metrics").text.splitlines()
        if line.startswith("vitrine_requests_total") and f'route="{route}"' in line and f'status="{status}"' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


LONG = {
    "model": "breast-cancer",
    "inputs": [[0.5] * 30],
    "method": "expected-gradients",
    "tolerance": 1e-9,
    "deadline_ms": 600_000,
}


def test_an_explanation_whose_client_is_gone_or_out_of_time_is_given_up(impatient: Server) -> None:
    """Each would work for ten minutes, and the last one waits behind the others."""
    wait_for(lambda: impatient.client.get("/health/ready").json()["models"]["breast-cancer"]["explains"])
    body = orjson.dumps(LONG)
    (compute,) = child_processes(impatient.process.pid, COMPUTE)
    explain = head(len(body)).replace(b"/predict", b"/explain") + body
    before = status_count(impatient, "/explain", "499")
    gone = [Raw(impatient) for _ in range(2)]
    for client in gone:
        client.send(explain)
    ticks = cpu_ticks(compute)
    wait_for(lambda: cpu_ticks(compute) > ticks + 20)
    for client in gone:
        client.socket.shutdown(socket.SHUT_RDWR)
        client.socket.close()

    late = impatient.client.post("/explain", json=LONG, headers={"X-Request-Timeout-Ms": "300"})
    quick = impatient.client.post("/explain", json={**LONG, "tolerance": 0.5, "deadline_ms": 2000})

    assert (504, "/problems/out-of-time") == (late.status_code, late.json()["type"])
    assert 200 == quick.status_code
    assert status_count(impatient, "/explain", "499") == before + 2


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_a_time_limit_that_is_none_is_422(impatient: Server, value: str) -> None:
    response = impatient.client.post("/predict", json=ROW, headers={"X-Request-Timeout-Ms": value})

    assert (422, "/problems/invalid-request") == (response.status_code, response.json()["type"])


def test_a_stream_of_events_ends_in_the_time_that_its_client_gives(impatient: Server) -> None:
    """It broke the connection, as if something had failed."""
    job = impatient.client.post("/train", json={"model": "iris", "dataset": {"builtin": "iris"}}).json()["job"]

    answer = impatient.client.get(f"/train/{job}/events", headers={"X-Request-Timeout-Ms": "300"})

    assert (200, "text/event-stream; charset=utf-8") == (answer.status_code, answer.headers["content-type"])


def test_ten_thousand_rows_are_refused_by_default_with_the_limit(server: Server) -> None:
    response = server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT] * 10_000})

    assert 422 == response.status_code
    assert [("#/inputs", "at most 1024 rows a request", "10000 rows")] == [
        (error["pointer"], error["expected"], error["received"]) for error in response.json()["errors"]
    ]


def test_ten_thousand_rows_are_answered_where_they_are_allowed_while_others_pass(impatient: Server) -> None:
    before = rss_mib(impatient)
    single = impatient.client.post("/predict", json=ROW).json()["predictions"][0]
    body = {"model": "diabetes", "inputs": [PATIENT] * 10_000}
    with ThreadPoolExecutor(1) as threads, httpx.Client(base_url=impatient.client.base_url, timeout=60) as other:
        passed, answers = 0, []
        for _ in range(5):
            many = threads.submit(other.post, "/predict", json=body)
            while not many.done():
                passed += serves(impatient)
            answers.append(many.result())

    assert {200} == {answer.status_code for answer in answers}
    assert [single] * 10_000 == answers[0].json()["predictions"]
    assert passed > 5
    assert rss_mib(impatient) < before + 64


def test_a_fault_among_ten_thousand_rows_is_named_by_its_place(impatient: Server) -> None:
    rows = [PATIENT] * 9_999 + [[*PATIENT[:9], "x"]]

    response = impatient.client.post("/predict", json={"model": "diabetes", "inputs": rows})

    assert ["#/inputs/9999/9"] == [error["pointer"] for error in response.json()["errors"]]


def test_millions_of_faults_are_not_all_looked_for(impatient: Server) -> None:
    before = rss_mib(impatient)
    surplus = {str(i): i for i in range(500_000)}
    for document, status in (
        ({"model": "diabetes", "inputs": [surplus]}, 422),
        ({**ROW, **surplus}, 422),
        ({**ROW, "model": "x" * MIB}, 422),
    ):
        assert status == impatient.client.post("/predict", json=document).status_code
    text = '{"model": "diabetes", "inputs": [[' + "NaN," * 1_000_000 + "1]]}"
    response = impatient.client.post("/predict", content=text, headers={"Content-Type": "application/json"})

    assert (400, 100) == (response.status_code, len(response.json()["errors"]))
    assert rss_mib(impatient) < before + 400


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[" * 100_000, 400),
        ('{"model": "diabetes", "inputs": ' + "[" * 900 + "]" * 900 + "}", 422),
        ('{"model": "diabetes", "inputs": [[' + "9" * 400 + ", 2, 3, 4, 5, 6, 7, 8, 9, 10]]}", 400),
        ('{"model": "diabetes", "inputs": [[1e999, 2, 3, 4, 5, 6, 7, 8, 9, 10]]}', 400),
        ('{"model": "diabetes", "version": ' + "9" * 30 + ', "inputs": [[1]]}', 422),
        ('{"model": "diabetes", "version": "' + "9" * 100 + '", "inputs": [[1]]}', 404),
        ('{"model": "diabetes", "version": "' + "9" * 5000 + '", "inputs": [[1]]}', 422),
        ('{"model": "diabetes", "inputs": [[1]], "inputs": ' + json.dumps([PATIENT]) + "}", 200),
        ('\ufeff{"model": "diabetes"}', 400),
        ('{"model": "\\ud800", "inputs": [[1]]}', 400),
        ('{"model": "dia\\u0000betes", "inputs": [[1]]}', 404),
    ],
)
def test_odd_json_is_answered_in_words(impatient: Server, text: str, status: int) -> None:
    response = impatient.client.post("/predict", content=text.encode(), headers={"Content-Type": "application/json"})

    assert status == response.status_code, response.text[:500]
    assert len(response.content) < 10_000


def test_a_deeply_nested_specification_is_422(impatient: Server) -> None:
    text = '{"model": "x", "dataset": {"builtin": ' + "[" * 900 + "]" * 900 + "}}"

    response = impatient.client.post("/train", content=text, headers={"Content-Type": "application/json"})

    assert (422, "/problems/invalid-spec") == (response.status_code, response.json()["type"])


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("application/vnd.vitrine+json", 200),
        ("APPLICATION/JSON", 200),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
def test_content_types(impatient: Server, content_type: str, status: int) -> None:
    response = impatient.client.post("/predict", content=orjson.dumps(ROW), headers={"Content-Type": content_type})

    assert status == response.status_code


def test_pipelined_requests_are_answered_in_order(impatient: Server) -> None:
    with Raw(impatient) as client:
        client.send(request() + request({**ROW, "model": "nope"}) + request())
        answers = [client.answer()[0] for _ in range(3)]

    assert [200, 404, 200] == answers


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_not_http_is_400(impatient: Server, garbage: bytes) -> None:
    with Raw(impatient) as client:
        client.send(garbage)
        status, headers, _ = client.answer()

    assert (400, "application/problem+json") == (status, headers["content-type"])


def test_a_client_that_reads_no_answers_holds_up_nobody(impatient: Server) -> None:
    body = request({"model": "diabetes", "inputs": [PATIENT] * 5000})
    with Raw(impatient) as client:
        client.socket.settimeout(1)
        for _ in range(5):
            client.send(body)
        assert all(serves(impatient) for _ in range(20))


@pytest.mark.soak
def test_an_explanation_that_two_processes_died_over_is_503_while_predictions_go_on_and_the_next_one_works(
    impatient: Server,
) -> None:
    log = impatient.settings.logs_directory / "compute.log"
    short = {**LONG, "tolerance": 0.5, "deadline_ms": 2000}
    assert 200 == impatient.client.post("/explain", json=short).status_code
    loaded = log.read_text().count("loaded breast-cancer/1")

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(impatient.client.post, "/explain", json=LONG, timeout=200)
        for death in range(2):
            wait_for(lambda death=death: log.read_text().count("loaded breast-cancer/1") == loaded + death)
            (compute,) = child_processes(impatient.process.pid, COMPUTE)
            idle = cpu_ticks(compute)
            wait_for(lambda compute=compute, idle=idle: cpu_ticks(compute) > idle + 50)
            os.kill(compute, signal.SIGKILL)
            assert all(serves(impatient) for _ in range(20))
        refused = answer.result(60)

    assert (503, "/problems/compute-unavailable") == (refused.status_code, refused.json()["type"])
    assert int(refused.headers["retry-after"]) >= 1
    readiness = impatient.client.get("/health/ready")
    assert (200, "degraded") == (readiness.status_code, readiness.json()["status"])
    assert any("died 2 times in a row" in problem for problem in readiness.json()["problems"])
    assert 200 == impatient.client.post("/explain", json=short, timeout=120).status_code
