"""What happens to explanations when they cannot be recorded, or may not be in full."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from disks import small_disk
from support import (
    EIGHT,
    PATIENT,
    Server,
    free_port,
    install,
    locked_by_another_process,
    mostly_under,
    point,
    running,
    succeeds,
    wait_for,
)

from models.artifact import Artifact, open_artifact
from service.settings import Settings

BUDGETED = {"model": "digits", "inputs": [EIGHT], "target": "all", "budget": 800}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, digits_artifact: Artifact, diabetes_artifact: Artifact
) -> Iterator[Server]:
    """A server whose home is a small disk, and whose records hold no inputs."""
    with small_disk(tmp_path_factory.mktemp("disk") / "home", 32 * 2**20) as home:
        settings = Settings(home=home, port=free_port(), refresh_ms=100, record_inputs=False)
        settings.prepare_home()
        for model, artifact in (("digits", digits_artifact), ("diabetes", diabetes_artifact)):
            point(settings, model, install(settings, artifact, model, f"JOB-{model}"))
        with running(settings, "serve") as server:
            wait_for(lambda: succeeds(server.client, "/health/ready"))
            explain(server)
            yield server


def explain(server: Server, body: dict[str, Any] = BUDGETED) -> dict[str, Any]:
    response = server.client.post("/explain", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def recorded(server: Server) -> bool:
    return explain(server)["receipt"]["recorded"]


def not_recorded_after(server: Server) -> float:
    started = monotonic()
    assert not recorded(server)
    return monotonic() - started


def readiness(server: Server) -> tuple[int, str, str]:
    response = server.client.get("/health/ready")
    return response.status_code, response.json()["status"], " ".join(response.json()["problems"])


def test_a_locked_database_delays_one_explanation_and_fails_none(server: Server) -> None:
    with locked_by_another_process(server.settings.home / "vitrine.sqlite"):
        first = recorded(server)
        during = readiness(server)
        # Each waiting for the lock would take two seconds.
        none_waits = mostly_under(1.5, lambda: not_recorded_after(server))
    wait_for(lambda: readiness(server)[1] == "ready")

    assert (first, none_waits) == (False, True)
    assert recorded(server)
    assert during[:2] == (200, "degraded")
    # Whichever comes first: the database gives up waiting for the lock, or the request gives up waiting for it.
    reason = "not recorded: (database is locked|the database has not answered)"
    assert re.search(reason, during[2])
    assert re.search(f"answered but {reason}", server.log)


def test_a_full_disk_fails_no_explanation_and_recording_goes_on_when_there_is_room(server: Server) -> None:
    filler = server.settings.home / "filler"
    status = os.statvfs(server.settings.home)
    filler.write_bytes(bytes(status.f_bavail * status.f_frsize))
    # What is left of the database's own pages is used up first.
    wait_for(lambda: not recorded(server))
    during = readiness(server)
    filler.unlink()
    wait_for(lambda: readiness(server)[1] == "ready")

    assert during[:2] == (200, "degraded")
    assert "not recorded: database or disk is full" in during[2]
    assert recorded(server)


def test_records_without_inputs_hold_none_and_are_not_replayed(server: Server) -> None:
    answered = explain(server, {"model": "diabetes", "inputs": [PATIENT]})
    image = explain(server)

    found = server.client.get(f"/explanations/{answered['id']}").json()
    refused = [
        server.client.post(f"/explanations/{answered['id']}/replay"),
        server.client.get(f"/explanations/{image['id']}", headers={"Accept": "image/png"}),
    ]
    drawn = server.client.get(f"/explanations/{answered['id']}", headers={"Accept": "image/png"})

    shares, answered_shares = (
        document["explanations"][0]["targets"][0].pop("attributions") for document in (found, answered)
    )
    assert found == answered
    assert [{**share, "value": None} for share in answered_shares] == shares
    assert {(409, "/problems/inputs-not-kept")} == {(r.status_code, r.json()["type"]) for r in refused}
    assert "VITRINE_RECORD_INPUTS" in refused[0].json()["detail"]
    assert drawn.status_code == 200
    with sqlite3.connect(server.settings.home / "vitrine.sqlite") as connection:
        rows = connection.execute("SELECT * FROM explanations WHERE id = ?", (answered["id"],)).fetchall()
    connection.close()
    assert len(rows) == 1
    assert not any(str(value) in str(rows) for value in (4.8598, 32.1, 93.2))


def test_a_server_that_records_nothing_says_so_and_is_not_degraded(tmp_path: Path) -> None:
    from models.building import Reporter, build_version
    from models.spec import parse_spec

    # Four columns: an explanation cheap enough to be made without the compute process.
    spec = {"model": "iris", "dataset": {"builtin": "iris"}, "training": {"epochs": 2}}
    build_version(parse_spec(spec), tmp_path / "iris", Reporter())
    settings = Settings(home=tmp_path / "home", port=free_port(), record_explanations=False)
    settings.prepare_home()
    install(settings, open_artifact(tmp_path / "iris"), "iris", "JOB")

    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        body = {"model": "iris", "version": 1, "inputs": [[5.1, 3.5, 1.4, 0.2]], "method": "exact"}
        answered = explain(server, body)
        found = server.client.get(f"/explanations/{answered['id']}")
        ready = readiness(server)

    assert answered["receipt"]["recorded"] is False
    assert (found.status_code, ready) == (404, (200, "ready", ""))
