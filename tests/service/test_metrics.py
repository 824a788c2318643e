"""Metrics alone: tallies, requests, figures of jobs, and what is left when a store is away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explain.attribution import Estimate
from models.database import create_tables, open_database
from models.spec import parse_spec
from service.draining import Drain
from service.entrance import Entrance
from service.errors import JobsUnavailable
from service.jobs.figures import JobFigures, JobFiguresReader, figures_of
from service.jobs.memory import TrainerMemory, peak_resident_bytes
from service.jobs.queue import JobQueue, JobTimes
from service.metrics import Metrics
from service.scrape import StoreFigures, exposition, seconds_since_start
from service.tallies import CounterTally, HistogramTally

FIGURES = JobFigures({"queued": 1}, [0] * 13, 0.0, 0.0, 0.0, {})
SPEC = {"model": "iris", "dataset": {"builtin": "iris"}}


def test_tallies_are_exposed_as_prometheus_client_exposes_its_own() -> None:
    bounds, values = (0.1, 1.0, 10.0), (0.05, 0.1, 0.10001, 3, 10, 11)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = HistogramTally("h_seconds", "What.", ("route",), bounds, ours)
    counter = CounterTally("c_total", "What.", ("route",), ours)
    their_histogram = Histogram("h_seconds", "What.", ("route",), buckets=bounds, registry=theirs)
    their_counter = Counter("c_total", "What.", ("route",), registry=theirs)

    for value in values:
        histogram.observe(('a"\\\n',), value)
        their_histogram.labels('a"\\\n').observe(value)
        counter.add(("b",), value)
        their_counter.labels("b").inc(value)

    assert lines(theirs) == lines(ours)


def lines(registry: CollectorRegistry) -> list[str]:
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)


def answered_by(app: Callable[[Scope, Receive, Send], Any], method: str = "GET") -> Metrics:
    """The metrics after one request to an application."""
    metrics = Metrics()

    scope = {"type": "http", "method": method, "path": "/x", "headers": []}
    asyncio.run(entered(app, metrics)(scope, received, nowhere))
    return metrics


def entered(app: ASGIApp, metrics: Metrics) -> Entrance:
    return Entrance(app, Drain(grace_seconds=0, stop_seconds=0), metrics, body_seconds=10)


async def nowhere(_message: Message) -> None: ...


async def received() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def counted(metrics: Metrics) -> dict[str, str]:
    (sample,) = next(iter(metrics.requests.collect())).samples
    return sample.labels


def in_flight(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.in_flight.collect()
    return {sample.labels["route"]: sample.value for sample in family.samples}


@pytest.mark.parametrize(("error", "status"), [(ClientDisconnect(), "499"), (ZeroDivisionError(), "500")])
def test_a_request_without_an_answer_is_counted_by_whose_fault_it_is(error: Exception, status: str) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    metrics = answered_by(app)

    assert counted(metrics)["status"] == status
    assert {"unknown": 0} == in_flight(metrics)


def test_a_client_that_reset_its_connection_as_the_answer_began_is_gone_and_nothing_is_broken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def scenario() -> None:
        connection = asyncio.get_running_loop().create_future()

        class Connected(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection.set_result(transport)

        server = await asyncio.get_running_loop().create_server(Connected, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = await connection
        transport.abort()

        async def write(_message: Message) -> None:
            transport.write(b"HTTP/1.1 200 OK")

        await entered(app, metrics)({"type": "http", "method": "GET", "path": "/x", "headers": []}, received, write)
        writer.close()
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())

    assert counted(metrics)["status"] == "499"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_request_that_is_out_of_time_in_the_middle_of_its_answer_breaks_off_and_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, sent = Metrics(), []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message["type"])

    headers = [(b"x-request-timeout-ms", b"20")]
    scope = {"type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "headers": headers}
    asyncio.run(entered(app, metrics)(scope, received, send))

    assert ["http.response.start"] == sent
    assert "200" == counted(metrics)["status"]
    assert ["GET /x: its time was up in the middle of its answer"] == caplog.messages


def test_methods_that_clients_make_up_share_one_label() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 405})

    assert {"route": "unknown", "method": "unknown", "model": "", "version": "", "status": "405"} == counted(
        answered_by(app, "BREW")
    )


def test_a_request_is_in_flight_until_its_answer_has_ended() -> None:
    seen = []

    async def scenario() -> None:
        metrics = Metrics()

        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(in_flight(metrics))

        scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
        await entered(app, metrics)(scope, received, nowhere)
        seen.append(in_flight(metrics))

    asyncio.run(scenario())

    assert [{"unknown": 1}, {"unknown": 0}] == seen


def test_explanations_are_measured_as_parts_of_their_scale_and_unknown_half_widths_left_out() -> None:
    metrics = Metrics()

    def estimate(half_width: float) -> Estimate:
        widths = np.array([[0.0, half_width], [half_width / 2, 0.0]])
        return Estimate(
            method="kernel",
            estimand="shapley",
            attributions=np.array([[1.0, 1.0], [2.0, 2.0]]),
            standard_errors=widths / 2,
            half_widths=widths,
            values=np.array([3.0, 3.5]),
            base_values=np.zeros(2),
            scales=np.array([4.0, 5.0]),
            evaluations=1234,
            stop_reason="deadline",
        )

    metrics.note_explanations("m", [estimate(0.5), estimate(float("nan"))])

    text = generate_latest(metrics.registry).decode()
    assert 'vitrine_explanation_half_width_ratio_sum{method="kernel",model="m"} 0.1\n' in text
    assert 'vitrine_explanation_half_width_ratio_count{method="kernel",model="m"} 1.0\n' in text
    assert 'vitrine_explanation_residual_ratio_sum{method="kernel",model="m"} 0.2\n' in text
    assert 'vitrine_explanation_evaluations_sum{method="kernel",model="m"} 2468.0\n' in text
    assert 'vitrine_explanation_stops_total{method="kernel",model="m",reason="deadline"} 2.0\n' in text


def scrape(*reads: Callable[[], JobFigures], wait_seconds: float = 1.0) -> list[str]:
    """What each of some scrapes, one per read, says of the job stores."""

    async def scenario() -> list[str]:
        registry, upcoming = CollectorRegistry(), iter(reads)
        stores = StoreFigures(lambda: next(upcoming)(), registry)
        stores.MAX_AGE_SECONDS, stores.MAX_WAIT_SECONDS = 0.0, wait_seconds
        texts = []
        for _ in reads:
            await stores.refresh()
            texts.append((await exposition(registry)).decode())
        return texts

    return asyncio.run(scenario())


def is_up(text: str) -> bool:
    assert ("vitrine_job_store_up 1.0" in text) != ("vitrine_job_store_up 0.0" in text)
    return "vitrine_job_store_up 1.0" in text


def test_figures_of_jobs_are_left_out_while_a_store_is_away_and_come_back() -> None:
    def away() -> JobFigures:
        raise JobsUnavailable

    before, during, after = scrape(lambda: FIGURES, away, lambda: FIGURES)

    assert [True, False, True] == [is_up(text) for text in (before, during, after)]
    assert [True, False, True] == ["vitrine_jobs{" in text for text in (before, during, after)]


def test_a_store_that_hangs_costs_a_scrape_a_bounded_wait() -> None:
    released = threading.Event()

    def hang() -> JobFigures:
        released.wait(120)
        return FIGURES

    async def scenario() -> list[bool]:
        registry, reads = CollectorRegistry(), []
        stores = StoreFigures(lambda: reads.append(1) or hang(), registry)  # type: ignore[func-returns-value]
        stores.MAX_WAIT_SECONDS = 0.02
        states = []
        for _ in range(2):
            await stores.refresh()
            states.append(is_up((await exposition(registry)).decode()))
        released.set()
        stores.MAX_WAIT_SECONDS = 30
        await stores.refresh()
        states.append(is_up((await exposition(registry)).decode()))
        assert [1] == reads  # the second scrape waited for the first one's look
        return states

    assert [False, False, True] == asyncio.run(scenario())


def test_scrapes_within_a_second_share_one_look_at_the_stores() -> None:
    looks = []

    async def scenario() -> None:
        stores = StoreFigures(lambda: looks.append(1) or FIGURES, CollectorRegistry())  # type: ignore[func-returns-value]
        for _ in range(3):
            await stores.refresh()

    asyncio.run(scenario())

    assert [1] == looks


def test_jobs_are_counted_by_what_the_job_store_says_even_when_one_is_resumed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    engine = open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}")
    jobs = JobQueue(url, engine)
    reader = JobFiguresReader(jobs, engine, clock=lambda: 4e9)
    names = [jobs.submit(parse_spec(SPEC), SPEC)["job"] for _ in range(3)]

    jobs.cancel(names[0])
    cancelled = reader.read()
    jobs.resume(names[0])
    resumed = reader.read()
    jobs.close()
    engine.dispose()

    assert {"queued": 2, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 1} == cancelled.states
    assert {"queued": 3, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0} == resumed.states
    assert cancelled.queued_seconds > 1e9


def test_a_later_look_at_the_stores_asks_only_for_what_is_new(tmp_path: Path) -> None:
    asked = []

    class Queue:
        def times(self, *, finished_after: float) -> list[JobTimes]:
            asked.append(finished_after)
            old, new = JobTimes("a", "succeeded", 0, 10, 1000), JobTimes("b", "failed", 0, 20, 2000)
            return [[old], [new], []][len(asked) - 1]

    engine = open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}")
    create_tables(engine)
    reader = JobFiguresReader(Queue(), engine, clock=lambda: 3000.0)  # type: ignore[arg-type]

    states = [reader.read().states for _ in range(3)]
    engine.dispose()

    assert [0.0, 940.0, 1940.0] == asked
    assert [(1, 0), (1, 1), (1, 1)] == [(s["succeeded"], s["failed"]) for s in states]


def test_durations_are_of_succeeded_jobs_and_silence_is_of_running_ones() -> None:
    jobs = [
        JobTimes("a", "succeeded", 0, 10, 17),
        JobTimes("b", "succeeded", 0, 10, 110),
        JobTimes("c", "failed", 0, 10, 500),
        JobTimes("d", "running", 100, 200, None),
        JobTimes("e", "running", 100, 200, None),
        JobTimes("f", "queued", 900, None, None),
    ]

    figures = figures_of(jobs, {"d": 960.0}, {"m": 5}, now=1000.0)

    assert (0, 1, 0, 0, 1) == tuple(figures.duration_counts[:5])
    assert (2, 107.0) == (sum(figures.duration_counts), figures.duration_sum)
    assert (800.0, 100.0) == (figures.silent_seconds, figures.queued_seconds)
    assert {"queued": 1, "running": 2, "succeeded": 2, "failed": 1, "cancelled": 0} == figures.states


def test_a_trainer_s_peak_memory_is_kept_by_job_and_shown_of_the_latest_of_each_model(database_url: str) -> None:
    engine = open_database(database_url)
    create_tables(engine)
    memory = TrainerMemory(engine)

    memory.write("01A", "m", 500)
    memory.write("01B", "m", 300)
    memory.write("01B", "m", 200)  # a later attempt of the same job took less
    with memory.noted("01C", "other"):
        pass
    peaks = memory.latest_peaks()
    engine.dispose()

    assert 300 == peaks["m"]
    assert peaks["other"] == pytest.approx(peak_resident_bytes(), rel=0.1)


def test_the_age_of_a_process_is_read_to_a_hundredth_of_a_second(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "uptime").write_text("1000.25 500.00\n")
    (tmp_path / "self" / "stat").write_text("7 (a b) c) S " + " ".join(str(i) for i in range(4, 22)) + " 99000 1 2\n")

    assert 10.25 == seconds_since_start(tmp_path)
    assert seconds_since_start(tmp_path / "nowhere") is None
