"""`vitrine up` as a user runs it, with processes that are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from support import COMPUTE, PATIENT, Server, child_processes, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from service.settings import Settings

LONG = {
    "model": "endurance",
    "dataset": {"builtin": "diabetes"},
    "architecture": {"type": "mlp", "layers": [4]},
    "training": {"epochs": 30, "early_stopping": None},
}
PARTS = ("api", "worker")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose parts may be killed: they are started again."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port(), refresh_ms=100)
    with running(settings, "up") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        yield server


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[Server]:
    """One that a test ends: its processes are there, and may not be ready yet."""
    settings = Settings(home=tmp_path / "home", port=free_port(), refresh_ms=100)
    with running(settings, "up") as server:
        wait_for(lambda: succeeds(server.client, "/health/live") and all(pid_of(server, part) for part in PARTS))
        yield server


def pid_of(server: Server, part: str) -> int | None:
    try:
        return int((server.settings.run_directory / f"{part}.pid").read_text())
    except FileNotFoundError:
        return None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.long
def test_a_job_whose_worker_is_killed_ends_in_exactly_one_version_that_is_served(system: Server) -> None:
    job = system.client.post("/train", json=LONG).json()["job"]

    def read() -> dict[str, Any]:
        return system.client.get(f"/train/{job}").json()

    wait_for(lambda: (read()["progress"] or {}).get("epoch", 0) >= 3)
    worker = pid_of(system, "worker")
    assert worker is not None

    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: pid_of(system, "worker") not in (None, worker))
    document = wait_for(lambda: (d := read())["status"] in ("succeeded", "failed") and d)

    assert (document["status"], document["version"], document["promoted"]) == ("succeeded", 1, True)
    assert document["attempt"] >= 2
    assert [version["version"] for version in system.client.get("/models/endurance").json()["versions"]] == [1]
    assert [job] == [path.name for path in (system.settings.versions_directory / "endurance").iterdir()]
    answer = wait_for(
        lambda: (r := system.client.post("/predict", json={"model": "endurance", "inputs": [PATIENT]})).is_success and r
    )
    assert answer.json()["version"] == 1


@pytest.mark.soak
def test_a_job_that_ctrl_c_interrupts_goes_on_at_the_next_start(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port(), refresh_ms=100)
    with running(settings, "up") as first:
        wait_for(lambda: succeeds(first.client, "/health/ready"))
        job = first.client.post("/train", json=LONG).json()["job"]
        wait_for(lambda: first.client.get(f"/train/{job}").json()["step"] == "fitting")

    with running(settings, "up") as second:
        wait_for(lambda: succeeds(second.client, "/health/ready"))
        document = wait_for(
            lambda: (d := second.client.get(f"/train/{job}").json())["status"] in ("succeeded", "failed") and d
        )

    assert ("succeeded", 1) == (document["status"], document["version"])


def test_the_api_is_started_again_when_it_dies_and_ctrl_c_ends_every_process(ending: Server) -> None:
    api = pid_of(ending, "api")
    assert api is not None
    os.kill(api, signal.SIGKILL)
    wait_for(lambda: pid_of(ending, "api") not in (None, api) and succeeds(ending.client, "/health/ready"))
    processes = [pid for part in PARTS if (pid := pid_of(ending, part))]

    ending.process.send_signal(signal.SIGINT)
    status = ending.process.wait(120)

    assert status == 0
    assert [pid for pid in processes if is_alive(pid)] == []
    assert "Nothing is lost" in ending.log


def test_clients_of_an_api_that_is_killed_under_load_reconnect_and_get_right_answers(
    system: Server, diabetes_artifact: Artifact
) -> None:
    version = install(system.settings, diabetes_artifact, "diabetes", "JOB-diabetes")
    system.client.put("/models/diabetes/aliases/champion", json={"version": version}).raise_for_status()
    body = {"model": "diabetes", "inputs": [PATIENT]}
    expected = system.client.post("/predict", json=body).json()["predictions"]
    restarted = Event()

    def ask() -> tuple[set[int], list[Any], int]:
        """Statuses, and the answers that came before and after; a broken connection is asked again."""
        statuses, answers, broken, after = set(), [], 0, 0
        with httpx.Client(base_url=system.client.base_url, timeout=60) as client:
            while after < 20:
                try:
                    response = client.post("/predict", json=body)
                except httpx.TransportError:
                    broken += 1
                    continue
                statuses.add(response.status_code)
                answers.append(response.json().get("predictions"))
                after += restarted.is_set() and response.status_code == 200
        return statuses, [answer for answer in answers if answer is not None], broken

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        api = pid_of(system, "api")
        assert api is not None
        os.kill(api, signal.SIGKILL)
        wait_for(lambda: pid_of(system, "api") not in (None, api) and succeeds(system.client, "/health/ready"))
        restarted.set()
        results = [future.result(60) for future in asking]

    for statuses, answers, broken in results:
        assert statuses <= {200, 503}
        assert all(answer == expected for answer in answers)
        assert broken > 0


@pytest.mark.soak
def test_a_compute_process_that_is_killed_again_and_again_under_load_costs_no_prediction_and_no_wrong_explanation(
    system: Server, diabetes_artifact: Artifact
) -> None:
    point(system.settings, "diabetes", install(system.settings, diabetes_artifact, "diabetes", "JOB-diabetes"))
    bodies = {
        "/predict": {"model": "diabetes", "inputs": [PATIENT]},
        "/explain": {"model": "diabetes", "inputs": [PATIENT], "method": "expected-gradients", "budget": 4000},
    }
    wait_for(lambda: system.client.post("/explain", json=bodies["/explain"]).status_code == 200)
    finished = Event()

    def ask(path: str) -> tuple[list[int], list[str]]:
        """Statuses, and what the answers of status 200 said."""
        statuses, contents = [], []
        with httpx.Client(base_url=system.client.base_url, timeout=60) as client:
            while not finished.is_set():
                response = client.post(path, json=bodies[path])
                statuses.append(response.status_code)
                if response.status_code == 200:
                    document = response.json()
                    contents.append(str(document.get("predictions") or document["explanations"]))
                else:
                    assert int(response.headers["Retry-After"]) >= 1
        return statuses, contents

    def explained() -> bool:
        return system.client.post("/explain", json=bodies["/explain"]).status_code == 200

    with ThreadPoolExecutor(4) as threads:
        asking = {threads.submit(ask, path): path for path in 2 * list(bodies)}
        for _ in range(3):
            api = pid_of(system, "api")
            assert api is not None
            (compute,) = wait_for(lambda api=api: child_processes(api, COMPUTE))
            os.kill(compute, signal.SIGKILL)
            wait_for(lambda api=api, old=compute: (now := child_processes(api, COMPUTE)) and now != [old])
            wait_for(explained)
        finished.set()
        results = {path: [f.result(60) for f in asking if asking[f] == path] for path in bodies}

    assert {200} == {status for statuses, _ in results["/predict"] for status in statuses}
    assert {status for statuses, _ in results["/explain"] for status in statuses} <= {200, 503}
    for path in bodies:
        assert 1 == len({content for _, contents in results[path] for content in contents})


def test_killing_the_supervisor_ends_its_processes_too(ending: Server) -> None:
    processes = [pid for part in PARTS if (pid := pid_of(ending, part))]

    ending.process.kill()

    wait_for(lambda: not any(is_alive(pid) for pid in processes), seconds=60)


def test_a_second_start_in_the_same_home_is_refused_with_who_holds_it(system: Server) -> None:
    settings = system.settings.model_copy(update={"port": free_port()})

    with running(settings, "up") as second:
        status = second.process.wait(120)

    assert status == 1
    assert f"is held by process {system.process.pid}" in second.log
