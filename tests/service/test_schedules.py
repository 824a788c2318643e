"""Training by the clock: runs that happen once, what is missed, pauses; and the order of jobs that wait."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support import Server, free_port, wait_for
from workers import Workers

from models.sources.folder import DataFolder
from models.spec import parse_spec
from service.errors import UnknownSchedule
from service.jobs.schedules import Schedules
from service.settings import Settings

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
HOPELESS = {
    "dataset": {"builtin": "iris"},
    "architecture": {"type": "mlp", "layers": [4]},
    "training": {"epochs": 1},
    "limits": {"minutes": 1e-4},
}
"""A job whose trainer is ended at once: what counts here is when jobs begin, and how many there are."""


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    workers = Workers(Settings(home=tmp_path_factory.mktemp("clock"), port=free_port(), trainers=1))
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def schedules(workers: Workers) -> Schedules:
    settings = workers.settings
    folder = DataFolder(settings.data_directory, settings.dataset_expanded_limit_bytes)
    return Schedules(workers.queue, workers.registry, folder)


def submit(workers: Workers, model: str, **keys: Any) -> str:
    document = {"model": model, **HOPELESS, **keys}
    return workers.queue.submit(parse_spec(document), document)["job"]


def test_a_missed_run_is_made_up_for_once_by_two_workers_and_jobs_begin_by_priority(
    workers: Workers, schedules: Schedules
) -> None:
    now = datetime.now(UTC)
    latest = (now - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    cron = f"0 {latest.hour} * * *"
    schedules.put("missed", cron, HOPELESS, now - timedelta(days=5))
    schedules.put("due-later", cron, HOPELESS, now)
    schedules.put("paused", cron, HOPELESS, now - timedelta(days=5))
    schedules.pause("paused", now)
    jobs = {priority: submit(workers, "waiting", priority=priority) for priority in ("low", "normal", "high")}

    workers.start("anna")
    ended = {priority: workers.finished(job) for priority, job in jobs.items()}
    workers.start("bert")
    run = wait_for(lambda: (s := schedules.get("missed", now))["last_run"] and s["last_run"]["job"] and s["last_run"])
    wait_for(lambda: "is ready" in workers.log("bert"))
    workers.finished(run["job"])

    assert ["high", "normal", "low"] == sorted(ended, key=lambda priority: ended[priority]["started_at"])
    assert latest.isoformat(timespec="milliseconds").replace("+00:00", "Z") == run["at"]
    assert [run["job"]] == [job["job"] for job in workers.queue.jobs(limit=10, model="missed")]
    assert "missed" == workers.queue.job(run["job"])["model"]
    assert [None, None] == [schedules.get(model, now)["last_run"] for model in ("due-later", "paused")]


def test_the_same_run_submits_one_job_however_often_it_is_called(workers: Workers, schedules: Schedules) -> None:
    context = {"model": "twice", "spec": HOPELESS, "since": "2026-11-21T00:00:00.000Z"}

    first = schedules.run("2026-11-21T01:00:00+00:00", context)
    again = schedules.run("2026-11-21T01:00:00+00:00", context)

    assert first == again
    assert [first.job] == [job["job"] for job in workers.queue.jobs(limit=10, model="twice")]


def test_a_run_is_skipped_while_the_job_of_the_one_before_has_not_finished(
    workers: Workers, schedules: Schedules
) -> None:
    for name in list(workers.running):
        workers.stop(name)
    context = {"model": "slow", "spec": HOPELESS, "since": "2026-11-21T00:00:00.000Z"}
    first = schedules.run("2026-11-21T01:00:00+00:00", context)

    second = schedules.run("2026-11-21T02:00:00+00:00", context)
    assert first.job is not None
    workers.queue.cancel(first.job)
    third = schedules.run("2026-11-21T03:00:00+00:00", context)

    assert (None, f"Skipped: job {first.job} of the run before is queued.") == (second.job, second.detail)
    assert third.job not in (None, first.job)


def test_a_run_whose_specification_cannot_be_run_any_more_says_why(schedules: Schedules) -> None:
    context = {"model": "gone", "spec": {"from": "champion"}, "since": "2026-11-21T00:00:00.000Z"}

    run = schedules.run("2026-11-21T01:00:00+00:00", context)

    assert run.job is None
    assert "There is no model 'gone'" in run.detail


def test_a_schedule_says_when_it_runs_next_and_a_change_keeps_it_paused(schedules: Schedules) -> None:
    schedules.put("told", "0 3 * * 1", HOPELESS, NOW)
    first = schedules.get("told", NOW)
    schedules.pause("told", NOW)
    paused = schedules.put("told", "30 4 * * *", HOPELESS, NOW)
    resumed = schedules.resume("told", NOW)
    schedules.remove("told")

    assert ("active", "2026-11-23T03:00:00.000Z") == (first["status"], first["next_run_at"])
    assert ("paused", None, "30 4 * * *") == (paused["status"], paused["next_run_at"], paused["cron"])
    assert ("active", "2026-11-22T04:30:00.000Z") == (resumed["status"], resumed["next_run_at"])
    with pytest.raises(UnknownSchedule, match="Model 'told' has no schedule"):
        schedules.get("told", NOW)


# -- over HTTP -------------------------------------------------------------------------------------------------------


def test_a_schedule_is_set_listed_paused_resumed_and_removed_over_http(server: Server) -> None:
    place = "/models/diabetes/schedule"
    made = server.client.put(place, json={"cron": "0 3 * * 1", "spec": {"from": "champion", "warm_start": True}})
    listed = server.client.get("/schedules").json()["schedules"]
    paused, resumed = (server.client.post(f"{place}/{action}").json() for action in ("pause", "resume"))
    removed, gone = server.client.delete(place), server.client.get(place)

    assert 200 == made.status_code, made.text
    assert made.json() == {
        "model": "diabetes",
        "cron": "0 3 * * 1",
        "timezone": "UTC",
        "status": "active",
        "spec": {"from": "champion", "warm_start": True},
        "next_run_at": made.json()["next_run_at"],
        "last_run": None,
        "links": {"self": place, "model": "/models/diabetes"},
    }
    assert made.json() in listed
    assert (["paused", None], "active") == ([paused["status"], paused["next_run_at"]], resumed["status"])
    assert (204, 404) == (removed.status_code, gone.status_code)
    assert "/problems/unknown-schedule" == gone.json()["type"]


@pytest.mark.parametrize(
    ("body", "pointer", "cure"),
    [
        ({"cron": "every monday"}, "#/cron", "for example '0 3 * * 1'"),
        ({"cron": "0 0 3 * * 1"}, "#/cron", "five fields in UTC"),
        ({"cron": "99 3 * * 1"}, "#/cron", "minute, hour"),
        ({"cron": "0 0 30 2 *"}, "#/cron", "which never does"),
        ({"cron": "0 3 * * 1", "spec": {"from": 99}}, "#/spec/from", "It has: 1, champion"),
        ({"cron": "0 3 * * 1", "spec": {"from": 1, "trainin": {}}}, "#/spec/trainin", "did you mean 'training'?"),
        ({"cron": "0 3 * * 1", "spec": {"model": "other"}}, "#/spec/model", "'diabetes', or nothing"),
        ({}, "#/cron", "a value"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_the_cure(
    server: Server, body: dict[str, Any], pointer: str, cure: str
) -> None:
    answer = server.client.put("/models/diabetes/schedule", json=body)

    (fault,) = answer.json()["errors"]
    assert (422, pointer) == (answer.status_code, fault["pointer"])
    assert cure in " ".join(fault.values())
