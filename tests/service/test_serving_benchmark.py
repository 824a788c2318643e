"""What `benchmarks/serving` measures with: that wrong answers are refused, stalls charged, and servers ended."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import orjson
import pytest
from support import Server as ServedModels
from support import free_port
from tools import need

from benchmarks.memory import read_processes
from benchmarks.serving.disturbed import Bar
from benchmarks.serving.forms import HEADER_LENGTH, V2, InputsAlone, Native, requests_of
from benchmarks.serving.growth import Point, cliffs
from benchmarks.serving.load import Load, WrongAnswers, load, parse_result
from benchmarks.serving.open_loop import due_times, open_loop
from benchmarks.serving.profiling import is_work, parse_samples, shares, step_of
from benchmarks.serving.rpc import V2Rpc, check_counts, load_calls, read_log
from benchmarks.serving.running import check_answers, check_calls, running
from benchmarks.serving.servers import Server
from benchmarks.serving.subjects import Subject, bare_outputs
from models.artifact import Artifact
from service.rpc.messages import message_class

COLUMNS = V2(inputs={"breast-cancer": ("input",)}, row_shapes={"breast-cancer": (30,)}, binary=True)
ASK = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def subject(breast_cancer_artifact: Artifact) -> Subject:
    assert breast_cancer_artifact.onnx_path is not None
    rows = breast_cancer_artifact.background[0][:8]
    labels = tuple(breast_cancer_artifact.signature.labels)
    outputs = bare_outputs(breast_cancer_artifact.onnx_path, rows)
    return Subject("breast-cancer", breast_cancer_artifact, breast_cancer_artifact.onnx_path, labels, rows, outputs)


class RoomyServer(ThreadingHTTPServer):
    """Has room for as many new connections as a load opens: without, the kernel lets some of them wait for seconds."""

    request_queue_size = 256


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    """Serves by a handler, in a thread."""
    with RoomyServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def small_server(answer: Callable[[int], tuple[int, float]], idle_seconds: float | None = None) -> Iterator[str]:
    """Answers one request at a time; its number decides with which status and after how many seconds."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = idle_seconds
        answered = 0
        turn = threading.Lock()

        def do_POST(self) -> None:
            with Handler.turn:
                status, pause = answer(Handler.answered)
                Handler.answered += 1
                threading.Event().wait(pause)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            del code, size

    with serving(Handler) as url:
        yield url


def test_our_answers_are_those_of_the_bare_engine(server: ServedModels, subject: Subject) -> None:
    check_answers(str(server.client.base_url).rstrip("/"), Native(), subject, n_rows=3)


def test_an_answer_for_another_row_is_refused(server: ServedModels, subject: Subject) -> None:
    shifted = replace(subject, outputs=np.roll(subject.outputs, 1, axis=0))

    with pytest.raises(WrongAnswers, match="breast-cancer"):
        check_answers(str(server.client.base_url).rstrip("/"), Native(), shifted, n_rows=1)


def test_a_form_that_the_server_does_not_know_is_refused(server: ServedModels, subject: Subject) -> None:
    with pytest.raises(WrongAnswers, match="404"):
        check_answers(str(server.client.base_url).rstrip("/"), InputsAlone("/nowhere/{model}"), subject, n_rows=1)


def test_wrk_sends_different_requests_to_the_server_and_counts_their_answers(
    server: ServedModels, subject: Subject
) -> None:
    need("wrk", package="wrk")
    url = str(server.client.base_url).rstrip("/")

    measured = load(url, requests_of(Native(), subject, 1, 4), connections=2, seconds=1)

    assert measured.requests > 0
    assert 0 < measured.p50_ms <= measured.p99_ms


def test_wrk_refuses_a_server_that_fails(server: ServedModels, subject: Subject) -> None:
    need("wrk", package="wrk")
    url = str(server.client.base_url).rstrip("/")

    with pytest.raises(WrongAnswers, match="status"):
        load(url, requests_of(Native("/nowhere"), subject, 1, 1), connections=1, seconds=1)


def test_our_answers_over_grpc_are_those_of_the_bare_engine(server: ServedModels, subject: Subject) -> None:
    form = V2Rpc(f"127.0.0.1:{server.settings.grpc_port}", COLUMNS)
    shifted = replace(subject, outputs=np.roll(subject.outputs, 1, axis=0))

    check_calls(form, subject, n_rows=3)

    with pytest.raises(WrongAnswers, match="breast-cancer"):
        check_calls(form, shifted, n_rows=1)


def test_h2load_sends_as_many_calls_as_the_server_counts(server: ServedModels, subject: Subject) -> None:
    need("h2load", package="nghttp2-client")
    call = V2Rpc(f"127.0.0.1:{server.settings.grpc_port}", COLUMNS).ask(subject, subject.rows[:3])

    before = calls_answered(server)
    measured = load_calls(call, connections=2, seconds=1)

    assert measured.requests > 0
    assert 0 < measured.p50_ms <= measured.p99_ms
    # One is asked beforehand, and those in flight when time is up are counted by the server alone.
    assert measured.requests + 1 <= calls_answered(server) - before <= measured.requests + 1 + 2


def calls_answered(server: ServedModels) -> int:
    lines = server.client.get("/metrics").text.splitlines()
    answered = (
        line
        for line in lines
        if line.startswith("vitrine_requests_total{") and "/ModelInfer" in line and 'status="200"' in line
    )
    return sum(int(float(line.split()[-1])) for line in answered)


def test_errors_over_grpc_are_no_measurement(server: ServedModels, subject: Subject) -> None:
    call = V2Rpc(f"127.0.0.1:{server.settings.grpc_port}", COLUMNS).ask(subject, subject.rows[:1])

    with pytest.raises(WrongAnswers, match="INVALID_ARGUMENT"):
        load_calls(replace(call, message=call.message[:-1]), connections=1, seconds=1)


@pytest.mark.parametrize(
    ("done", "errored", "data_bytes", "reason"),
    [(10, 0, 999, "some are errors"), (10, 1, 1000, "errored"), (0, 0, 0, "0 answers")],
)
def test_a_load_over_grpc_with_a_single_failure_is_no_measurement(
    done: int, errored: int, data_bytes: int, reason: str
) -> None:
    def printed(done: int, errored: int, data_bytes: int) -> str:
        counts = f"{done} total, {done} started, {done} done, {done} succeeded, 0 failed, {errored} errored, 0 timeout"
        return (
            f"requests: {counts}\ntraffic: 9KB (9000) total, 1B (1) headers (space savings 9%), 1B ({data_bytes}) data"
        )

    check_counts(printed(10, 0, 1000), answer_bytes=100)

    with pytest.raises(WrongAnswers, match=reason):
        check_counts(printed(done, errored, data_bytes), answer_bytes=100)


def test_times_of_calls_are_those_of_h2load_s_log() -> None:
    measured = read_log("".join(f"1795295044954986\t200\t{us}\n" for us in range(1000, 102_000, 1000)), seconds=2)

    assert measured == Load(101, 2, 51.0, 100.0)


def test_a_call_holds_the_rows_in_a_framed_message(subject: Subject) -> None:
    call = V2Rpc("here:1", COLUMNS).ask(subject, subject.rows[:3])

    message = message_class("ModelInferRequest").FromString(call.framed()[5:])

    assert call.framed()[:5] == b"\0" + len(call.message).to_bytes(4, "big")
    assert list(message.inputs[0].shape) == [3, 30]
    assert message.raw_input_contents[0] == np.float32(subject.rows[:3]).tobytes()


def test_a_load_with_a_single_failure_is_no_measurement() -> None:
    printed = 'RESULT {"requests": 9, "duration_us": 1, "p50_us": 1, "p99_us": 1, "errors": {"status": 1, "read": 0}}'

    with pytest.raises(WrongAnswers, match="status"):
        parse_result(printed)


def test_a_stall_is_charged_to_every_request_that_was_due_during_it() -> None:
    with small_server(lambda number: (200, 0.5 if number == 20 else 0.0)) as url:
        measured = open_loop(url, [ASK], per_second=100, seconds=1)

    # A closed loop would have waited with the next request, and seen one slow answer.
    assert len(measured.latencies_ms) == 100
    assert (measured.latencies_ms > 100).sum() >= 20


def test_an_open_loop_refuses_a_server_that_fails() -> None:
    with (
        small_server(lambda number: (503 if number == 5 else 200, 0.0)) as url,
        pytest.raises(WrongAnswers, match="503"),
    ):
        open_loop(url, [ASK], per_second=100, seconds=0.5)


def test_connections_that_a_server_closes_while_they_are_idle_are_no_failure() -> None:
    closed_early = 0.2
    with small_server(lambda number: (200, 0.5 if number == 20 else 0.0), idle_seconds=closed_early) as url:
        measured = open_loop(url, [ASK], per_second=50, seconds=2)

    # The stall opened connections that were not needed afterwards.
    assert len(measured.latencies_ms) == 100


@contextmanager
def hanging_up_server(answers: int) -> Iterator[str]:
    """Answers so many requests of each connection, reads one more, and hangs up on it."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            for _ in range(answers):
                if not self.request.recv(1 << 16):
                    return
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            self.request.recv(1 << 16)

    with serving(Handler) as url:
        yield url


def test_a_request_that_meets_the_end_of_its_connection_is_sent_again() -> None:
    with hanging_up_server(answers=2) as url:
        measured = open_loop(url, [ASK], per_second=100, seconds=0.5)

    assert len(measured.latencies_ms) == 50
    assert (measured.latencies_ms > 0).all()


def test_a_server_that_hangs_up_on_the_first_request_of_a_connection_is_refused() -> None:
    with hanging_up_server(answers=0) as url, pytest.raises(WrongAnswers, match="owed an answer"):
        open_loop(url, [ASK], per_second=100, seconds=0.5)


def test_requests_are_due_at_the_mean_rate() -> None:
    due = due_times(1000, 20, seed=0)

    assert len(due) == 20_000
    assert due[-1] == pytest.approx(20, rel=0.05)
    assert np.diff(due).std() == pytest.approx(1e-3, rel=0.05)  # the gaps of a Poisson process deviate by their mean


def test_binary_requests_hold_the_rows_after_their_header(subject: Subject) -> None:
    form = V2(inputs={"breast-cancer": ("rows",)}, row_shapes={"breast-cancer": (30,)}, binary=True)

    request = form.ask(subject, subject.rows[:3])

    length = int(request.headers[HEADER_LENGTH])
    described = orjson.loads(request.body[:length])["inputs"][0]
    assert described["shape"] == [3, 30]
    assert described["parameters"]["binary_data_size"] == len(request.body) - length
    np.testing.assert_array_equal(subject.rows[:3], np.frombuffer(request.body[length:], np.float32).reshape(3, 30))


def test_what_a_server_started_ends_with_it_wherever_it_has_gone(tmp_path: Path, subject: Subject) -> None:
    port = free_port()
    script = tmp_path / "server.py"
    script.write_text(
        "import subprocess\n"
        "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "class Handler(BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()\n"
        f"HTTPServer(('127.0.0.1', {port}), Handler).serve_forever()\n"
    )
    server = Server("small", (sys.executable, str(script)), f"http://127.0.0.1:{port}", {}, "1", "")

    with running(server, requests_of(Native("/"), subject, 1, 1), tmp_path / "log") as started:
        pids = started.pids()
        assert len(pids) == 2
        assert started.memory().processes == 2

    left = read_processes()
    assert not [pid for pid in pids if pid in left and left[pid].resident_mib > 0]


def test_a_server_that_ends_at_once_is_reported_with_what_it_wrote(tmp_path: Path, subject: Subject) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no such network')")
    server = Server("small", command, f"http://127.0.0.1:{free_port()}", {}, "1", "")

    with (
        pytest.raises(RuntimeError, match="no such network"),
        running(server, requests_of(Native("/"), subject, 1, 1), tmp_path / "log"),
    ):
        pass


def test_a_curve_has_a_cliff_where_half_of_the_rows_are_lost() -> None:
    def point(size: int, per_second: int) -> Point:
        return Point(size, Load(per_second, 1.0, 1.0, 1.0))

    assert cliffs([point(1, 100), point(2, 190), point(4, 150)]) == []
    assert cliffs([point(1, 100), point(2, 190), point(4, 90), point(8, 80)]) == [4]


@pytest.mark.parametrize(("alone_ms", "disturbed_ms", "holds"), [(1, 5.9, True), (1, 6.1, False), (8, 15.9, True)])
def test_a_disturbance_may_cost_a_factor_or_some_milliseconds(
    alone_ms: float, disturbed_ms: float, holds: bool
) -> None:
    assert Bar(times=2, more_ms=5).holds(alone_ms, disturbed_ms) is holds


def test_a_sample_belongs_to_the_step_that_is_nearest_to_it() -> None:
    raw = (
        "run (/lib/asyncio/runners.py:1);predict (/app/service/routes/predict.py:40) 3\n"
        "run (/lib/asyncio/runners.py:1);predict (/app/service/routes/predict.py:41);run (/lib/onnxruntime/a.py:7) 1\n"
    )

    samples = list(parse_samples(raw))

    assert [step_of(sample) for sample in samples] == ["route", "network: ONNX Runtime"]
    assert shares(samples) == {"network: ONNX Runtime": 0.25, "route": 0.75}


def test_threads_that_wait_are_no_work() -> None:
    raw = (
        "<module> (/app/service/__main__.py:1);run (/lib/asyncio/runners.py:1) 1\n"
        "_bootstrap (/lib/threading.py:1);_worker (/lib/concurrent/futures/thread.py:81) 1\n"
        "_bootstrap (/lib/threading.py:1);run (/lib/concurrent/futures/thread.py:58);evaluate (/app/engine.py:9) 1\n"
        "_bootstrap (/lib/threading.py:1);wait (/lib/threading.py:320) 1\n"
    )

    assert [is_work(sample) for sample in parse_samples(raw)] == [True, False, True, False]
