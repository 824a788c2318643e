"""A search whose trials several workers share: killed, cancelled, resumed, and its best trial becomes the version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import wait_for
from workers import Workers

from models.artifact import open_artifact
from models.search.trials import Trials
from models.spec import parse_spec
from service.jobs.trainer import version_directory
from service.settings import Settings

pytestmark = pytest.mark.long


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    crew = Workers(Settings(home=tmp_path / "home", worker_silence_seconds=2, trainers=1))
    try:
        yield crew
    finally:
        crew.close()


def test_trials_of_a_killed_worker_are_finished_by_another_and_the_best_one_becomes_the_version(
    workers: Workers,
) -> None:
    job = submit(workers, trials=4, epochs=15)
    trials = Trials(workers.engine, job)
    for name in ("one", "two"):
        workers.start(name)
    begun = wait_for(lambda: [trial for trial in trials.all() if trial.errors and trial.state == "running"])

    workers.kill("one")
    document = workers.finished(job, seconds=240)

    assert "succeeded" == document["status"], document["error"]
    found = trials.all()
    assert list(range(4)) == [trial.number for trial in found]
    assert {"complete"} == {trial.state for trial in found}
    assert begun[0].parameters == found[begun[0].number].parameters
    card = open_artifact(version_directory(workers.settings.versions_directory, "m", job)).card
    best = min(found, key=lambda trial: trial.value or 0.0)
    assert card["search"]["best"]["trial"] == best.number
    assert card["spec"]["training"]["learning_rate"] == best.parameters["training.learning_rate"]
    assert card["spec"]["search"] is None
    assert pytest.approx(1.0) == sum(card["search"]["importances"].values())
    assert [1] == workers.versions("m")
    assert workers.queue.trials(job) == card["search"]["trials"]


def test_cancelled_search_stops_its_trials_and_resume_goes_on_with_them(workers: Workers) -> None:
    job = submit(workers, trials=3, epochs=3000)
    trials = Trials(workers.engine, job)
    workers.start("one")
    wait_for(lambda: [trial for trial in trials.all() if trial.errors])
    drawn = trials.all()[0].parameters

    workers.queue.cancel(job)

    wait_for(lambda: not workers.trainers("one", job), seconds=60)
    assert ["running"] == [trial.state for trial in trials.all()]
    workers.queue.resume(job)
    wait_for(lambda: workers.trainers("one", job))
    assert drawn == trials.all()[0].parameters
    workers.queue.cancel(job)


def submit(workers: Workers, *, trials: int, epochs: int) -> str:
    document: dict[str, Any] = {
        "model": "m",
        "dataset": {"builtin": "iris"},
        "training": {"epochs": epochs, "early_stopping": None},
        "search": {
            "trials": trials,
            "pruning": False,
            "space": {
                "architecture.width": {"low": 4, "high": 32, "log": True},
                "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            },
        },
    }
    return workers.queue.submit(parse_spec(document), document)["job"]
