"""Jobs over HTTP: asked for twice, followed, cancelled, resumed, and failing in words."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support import TRAINER, Server, child_processes, wait_for

QUICK = {
    "model": "quick",
    "dataset": {"builtin": "iris"},
    "architecture": {"type": "mlp", "layers": [4]},
    "training": {"epochs": 3, "early_stopping": None},
}


@dataclass(frozen=True)
class Followed:
    """A job whose events were read from its beginning to its end."""

    job: str
    media: str
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def followed(system: Server) -> Followed:
    job = submit(system, {**QUICK, "model": "followed"})["job"]
    with system.client.stream("GET", f"/train/{job}/events") as stream:
        return Followed(job, stream.headers["content-type"], list(events_of(stream.iter_lines())))


def long_job(model: str) -> dict[str, Any]:
    return {**QUICK, "model": model, "training": {"epochs": 5000, "early_stopping": None}}


def submit(system: Server, document: dict[str, Any], **headers: str) -> dict[str, Any]:
    response = system.client.post("/train", json=document, headers=headers)
    assert response.status_code == 202, response.text
    return response.json()


def read(system: Server, job: str) -> dict[str, Any]:
    return system.client.get(f"/train/{job}").json()


def epoch(system: Server, job: str) -> int:
    return (read(system, job)["progress"] or {}).get("epoch", 0)


def trainers(system: Server) -> list[int]:
    worker = int((system.settings.run_directory / "worker.pid").read_text())
    return child_processes(worker, TRAINER)


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream of server-sent events."""
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if not line and event:
            yield {"id": int(event["id"]), "event": event["event"], "data": json.loads(event["data"])}
            event = {}
        elif name:
            event[name] = value


@pytest.mark.long
def test_a_cancelled_job_stops_and_resume_takes_it_to_its_end(system: Server) -> None:
    job = submit(system, {**long_job("stopped"), "training": {"epochs": 30, "early_stopping": None}})["job"]
    wait_for(lambda: epoch(system, job) >= 2)
    api = int((system.settings.run_directory / "api.pid").read_text())
    niceness = {os.getpriority(os.PRIO_PROCESS, pid) for pid in (api, *trainers(system))}

    cancelled = system.client.post(f"/train/{job}/cancel")
    wait_for(lambda: not trainers(system))
    stopped_at = epoch(system, job)
    resumed = system.client.post(f"/train/{job}/resume")

    assert (202, "cancelled") == (cancelled.status_code, cancelled.json()["status"])
    assert stopped_at < 30
    assert 2 == len(niceness)  # the trainer's is another than that of predictions
    assert 202 == resumed.status_code
    document = wait_for(lambda: (d := read(system, job))["status"] == "succeeded" and d)
    assert (1, True, 2) == (document["version"], document["promoted"], document["attempt"])


def test_a_job_is_cancelled_while_it_waits_in_the_queue(system: Server) -> None:
    first = submit(system, long_job("first"))["job"]
    wait_for(lambda: read(system, first)["status"] == "running")
    second = submit(system, QUICK)["job"]

    cancelled = system.client.post(f"/train/{second}/cancel").json()
    system.client.post(f"/train/{first}/cancel")

    assert ("cancelled", 0) == (cancelled["status"], cancelled["attempt"])
    wait_for(lambda: not trainers(system))


def test_what_a_jobs_state_does_not_allow_is_409(system: Server, followed: Followed) -> None:
    waiting, job = submit(system, QUICK)["job"], followed.job

    early = system.client.post(f"/train/{waiting}/resume")
    system.client.post(f"/train/{waiting}/cancel")
    late = system.client.post(f"/train/{job}/cancel")
    again = system.client.post(f"/train/{job}/resume")

    assert [409, 409, 409] == [early.status_code, late.status_code, again.status_code]
    assert "/problems/job-state" == late.json()["type"]
    assert f"Job {job} is succeeded. Only a job that is queued or running can be cancelled." == late.json()["detail"]
    assert 404 == system.client.post("/train/nobody/cancel").status_code


def test_the_same_key_and_body_are_the_same_job_and_another_body_is_refused(system: Server) -> None:
    key = {"Idempotency-Key": "monday"}

    first = submit(system, QUICK, **key)
    second = submit(system, dict(reversed(QUICK.items())), **key)
    other = system.client.post("/train", json={**QUICK, "promote": "never"}, headers=key)

    assert first["job"] == second["job"]
    assert 422 == other.status_code
    assert first["job"] in other.json()["detail"]
    jobs = [job["job"] for job in system.client.get("/train", params={"model": "quick"}).json()["jobs"]]
    assert 1 == jobs.count(first["job"])
    system.client.post(f"/train/{first['job']}/cancel")


def test_jobs_of_one_model_are_listed_newest_first(system: Server) -> None:
    jobs = [submit(system, {**QUICK, "model": "listed"})["job"] for _ in range(3)]

    listed = system.client.get("/train", params={"model": "listed", "limit": 2}).json()["jobs"]

    assert jobs[:0:-1] == [job["job"] for job in listed]
    for job in jobs:
        system.client.post(f"/train/{job}/cancel")


def test_events_rise_end_with_the_job_and_go_on_from_the_last_one_seen(system: Server, followed: Followed) -> None:
    seen, last = followed.events, {"Last-Event-ID": str(followed.events[-3]["id"])}

    with system.client.stream("GET", f"/train/{followed.job}/events", headers=last) as stream:
        rest = list(events_of(stream.iter_lines()))

    assert followed.media.startswith("text/event-stream")
    assert sorted({event["id"] for event in seen}) == [event["id"] for event in seen]
    steps = [event["data"]["step"] for event in seen if event["event"] == "progress"]
    assert ["loading", "fitting", "evaluating", "explaining", "registering", "gating"] == list(dict.fromkeys(steps))
    assert ("status", "succeeded", 1) == (seen[-1]["event"], seen[-1]["data"]["status"], seen[-1]["data"]["version"])
    assert seen[-2:] == rest


def test_events_of_an_unknown_job_and_a_wrong_number_are_refused(system: Server) -> None:
    unknown = system.client.get("/train/nobody/events")
    job = system.client.get("/train", params={"limit": 1}).json()["jobs"][0]["job"]
    wrong = system.client.get(f"/train/{job}/events", headers={"Last-Event-ID": "first"})

    assert (404, 422) == (unknown.status_code, wrong.status_code)


def test_the_log_of_a_job_is_given_whole_or_by_its_last_lines(system: Server, followed: Followed) -> None:
    whole = system.client.get(f"/train/{followed.job}/logs")
    tail = system.client.get(f"/train/{followed.job}/logs", params={"tail": 1})

    assert "evaluating" in whole.text
    assert [whole.text.splitlines()[-1]] == tail.text.splitlines()
    assert 404 == system.client.get("/train/nobody/logs").status_code


def test_a_trainer_killed_once_is_started_again_and_twice_fails_the_job_in_words(system: Server) -> None:
    job = submit(system, long_job("mortal"))["job"]

    for attempt in (1, 2):
        wait_for(lambda attempt=attempt: read(system, job)["attempt"] == attempt and trainers(system))
        os.kill(trainers(system)[0], signal.SIGKILL)
    document = wait_for(lambda: (d := read(system, job))["status"] == "failed" and d)
    resumed = system.client.post(f"/train/{job}/resume")
    wait_for(lambda: read(system, job)["attempt"] == 3)
    system.client.post(f"/train/{job}/cancel")

    assert "The trainer process was killed by signal 9, 2 times (out of memory?)." in document["error"]["detail"]
    assert "Resume goes on from its checkpoint." in document["error"]["detail"]
    assert 202 == resumed.status_code


@pytest.mark.long
def test_a_job_that_cannot_be_trained_says_why_in_words(system: Server) -> None:
    alone = {**QUICK, "model": "alone", "split": {"by": "petal length (cm)", "test": 0.98, "validation": 0.01}}
    job = submit(system, alone)["job"]

    document = wait_for(lambda: (d := read(system, job))["status"] == "failed" and d)

    assert "The data and the specification do not fit" == document["error"]["title"]
    assert "rows" in document["error"]["detail"]
    assert "Traceback" not in json.dumps(document["error"])


def test_a_stream_whose_client_goes_away_ends(system: Server) -> None:
    job = submit(system, long_job("left"))["job"]

    with system.client.stream("GET", f"/train/{job}/events") as stream:
        first = next(events_of(stream.iter_lines()))
    answer = httpx.get(f"{system.client.base_url}/health/live", timeout=60)
    system.client.post(f"/train/{job}/cancel")

    assert job == first["data"]["job"]
    assert 200 == answer.status_code
