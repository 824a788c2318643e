"""Jobs whose worker dies, falls silent or is told to stop: another takes them over, and nothing is done twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support import free_port, wait_for
from workers import Workers

from models.artifact import open_artifact
from service.jobs.trainer import version_directory
from service.settings import Settings

pytestmark = pytest.mark.long


def databases(*quick: str) -> pytest.MarkDecorator:
    """On both databases, of which the default run takes only some."""
    soak = pytest.mark.soak
    kinds = [name if name in quick else pytest.param(name, marks=soak) for name in ("sqlite", "postgresql")]
    return pytest.mark.parametrize("workers", kinds, indirect=True)


@pytest.fixture(scope="module")
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers, who count each other as silent after two seconds."""
    urls = {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        urls = {"database_url": server.new_database(), "jobs_database_url": server.new_database()}
    home = tmp_path_factory.mktemp(request.param)
    workers = Workers(Settings(home=home, port=free_port(), worker_silence_seconds=4, trainers=1, **urls))
    yield workers
    workers.close()


@pytest.fixture
def both(workers: Workers) -> Workers:
    workers.start("anna")
    workers.start("bert")
    return workers


@databases("postgresql")
@pytest.mark.parametrize(
    "step",
    [
        pytest.param("loading", marks=pytest.mark.soak),
        "fitting",
        pytest.param("evaluating", marks=pytest.mark.soak),
        pytest.param("explaining", marks=pytest.mark.soak),
    ],
)
def test_a_worker_killed_while_its_trainer_works_leaves_one_version_and_one_move(both: Workers, step: str) -> None:
    model = f"killed-{step}"
    job = both.submit(model)
    wait_for(lambda: any(both.trainers(name, job) for name in both.running))
    victim = both.holder(job)
    (trainer,) = both.trainers(victim, job)
    # A step can be short: nothing is looked up between seeing it and the kill.
    wait_for(lambda: both.step(job) == step and (step != "fitting" or both.epoch(job) >= 2))

    both.kill(victim)

    wait_for(lambda: not is_alive(trainer), seconds=20)
    document = both.finished(job)
    assert ("succeeded", 1, True) == (document["status"], document["version"], document["promoted"])
    assert document["attempt"] == 2
    assert_done_once(both, model, job)


@databases()
def test_a_worker_killed_before_it_registers_leaves_one_version_and_one_move(both: Workers) -> None:
    job = both.submit("killed-registering")
    wait_for(lambda: both.step(job) == "fitting")
    victim = both.holder(job)
    with both.registry_locked():
        wait_for(lambda: "build" in both.recorded_steps(job))
        both.kill(victim)

    document = both.finished(job)

    assert ("succeeded", 1, True) == (document["status"], document["version"], document["promoted"])
    assert_done_once(both, "killed-registering", job)


@pytest.mark.parametrize(
    ("workers", "step"),
    [
        ("sqlite", "promote"),
        pytest.param("postgresql", "register", marks=pytest.mark.soak),
        pytest.param("sqlite", "register", marks=pytest.mark.soak),
        pytest.param("postgresql", "promote", marks=pytest.mark.soak),
    ],
    indirect=["workers"],
)
def test_a_worker_killed_between_what_it_did_and_its_record_of_it_does_not_do_it_twice(
    both: Workers, step: str
) -> None:
    model = f"killed-after-{step}"
    job = both.submit(model)
    wait_for(lambda: both.step(job) == "fitting")
    victim = both.holder(job)
    with ExitStack() as jobs_lock:
        with both.registry_locked():
            wait_for(lambda: "build" in both.recorded_steps(job))
            jobs_lock.enter_context(both.jobs_locked())
        wait_for(lambda: both.versions(model) == [1])
        if step == "promote":
            with both.registry_locked():
                jobs_lock.close()
                wait_for(lambda: "register" in both.recorded_steps(job))
                jobs_lock.enter_context(both.jobs_locked())
            wait_for(lambda: both.moves(model) == 1)
        both.kill(victim)

    document = both.finished(job)

    assert ("succeeded", 1, True) == (document["status"], document["version"], document["promoted"])
    assert_done_once(both, model, job)


@databases("postgresql")
def test_a_worker_that_wakes_up_after_its_job_was_taken_over_is_fenced_off(both: Workers) -> None:
    job = both.submit("asleep", epochs=80)
    wait_for(lambda: both.epoch(job) >= 2)
    sleeper = both.holder(job)
    os.kill(both.running[sleeper].pid, signal.SIGSTOP)
    wait_for(lambda: both.queue.job(job)["attempt"] == 2)

    os.kill(both.running[sleeper].pid, signal.SIGCONT)

    wait_for(lambda: not both.trainers(sleeper, job), seconds=60)
    document = both.finished(job)
    assert ("succeeded", 1, 2) == (document["status"], document["version"], document["attempt"])
    assert both.running[sleeper].poll() is None
    assert_done_once(both, "asleep", job)


@databases("sqlite")
def test_a_worker_that_is_told_to_stop_hands_its_job_over_at_once(both: Workers) -> None:
    job = both.submit("handed-over")
    wait_for(lambda: both.epoch(job) >= 1)

    status = both.stop(both.holder(job))

    assert status == 0
    assert both.finished(job)["status"] == "succeeded"
    assert_done_once(both, "handed-over", job)


@databases("sqlite")
def test_a_second_worker_under_one_name_is_refused_in_one_home(both: Workers) -> None:
    first = both.running.pop("anna")
    wait_for(lambda: both.beating_process("anna") == first.pid)
    both.start("anna")
    second = both.running["anna"]

    status = second.wait(60)

    both.running["anna"] = first
    assert status == 2
    assert "A worker named anna runs in" in both.log("anna")
    assert first.poll() is None


def assert_done_once(workers: Workers, model: str, job: str) -> None:
    assert [1] == workers.versions(model)
    assert 1 == workers.moves(model)
    assert 1 == len(workers.registry.decisions(model, 1))
    directory = version_directory(workers.settings.versions_directory, model, job)
    assert open_artifact(directory).card["model"] == model
    assert [job] == [path.name for path in directory.parent.iterdir()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
