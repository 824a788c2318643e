"""Pruning over HTTP and on the command line: what jobs, schedules and records need stays."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from commands import vitrine
from support import PATIENT, Server, install, point, wait_for

from models.artifact import CARD, Artifact
from models.importing.keras_file import stored_file


@pytest.fixture(scope="module")
def aged(server: Server, diabetes_artifact: Artifact) -> Server:
    """Model `aged` with versions 1 to 6: 4 is the champion, 1 has a schedule, an explanation of 2 is recorded."""
    for number in range(1, 7):
        install(server.settings, diabetes_artifact, "aged", f"JOB-aged-{number}")
    point(server.settings, "aged", 4)
    put = server.client.put("/models/aged/schedule", json={"cron": "0 3 * * 1", "spec": {"from": 1}})
    explained = server.client.post("/explain", json={"model": "aged", "version": 2, "inputs": [PATIENT]})
    assert (200, 200) == (put.status_code, explained.status_code), explained.text
    return server


def prune(server: Server, **body: Any) -> dict[str, Any]:
    answer = server.client.post("/models/prune", json=body)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def test_a_dry_run_says_what_would_go_and_the_run_deletes_it(aged: Server) -> None:
    said = prune(aged, model="aged", keep_versions=1, dry_run=True)
    before = aged.client.get("/models/aged").json()
    done = prune(aged, model="aged", keep_versions=1)
    after = aged.client.get("/models/aged").json()

    assert {**said, "dry_run": False} == done
    assert [3, 5] == [version["version"] for version in said["versions"]]
    assert [
        (1, "a schedule trains from it"),
        (2, "explanations of it are recorded"),
        (4, "champion points at it"),
    ] == [(version["version"], version["reason"]) for version in said["kept"]]
    assert [1, 2, 3, 4, 5, 6] == [version["version"] for version in before["versions"]]
    assert [1, 2, 4, 6] == [version["version"] for version in after["versions"]]
    body = {"model": "aged", "version": 3, "inputs": [PATIENT]}
    # The server looks for what has changed a few times a second.
    gone = wait_for(lambda: (r := aged.client.post("/predict", json=body)).status_code == 404 and r)
    assert "/problems/unknown-version" == gone.json()["type"]


def test_without_a_number_and_a_setting_all_versions_stay_and_old_checkpoints_go(aged: Server) -> None:
    folder = aged.settings.checkpoints_directory
    old, fresh = folder / "OLD", folder / "FRESH-3"
    for path in (old, fresh):
        path.mkdir(parents=True)
        (path / "epoch-000001.npz").write_bytes(b"")
    month_ago = datetime.now(UTC).timestamp() - 30 * 86_400
    for path in (old / "epoch-000001.npz", old):
        os.utime(path, (month_ago, month_ago))

    pruned = prune(aged)

    assert ([], ["OLD"]) == (pruned["versions"], pruned["checkpoints"])
    assert (False, True) == (old.exists(), fresh.exists())


def test_the_command_line_shows_a_dry_run(aged: Server) -> None:
    command = ["models", "prune", "--model", "aged", "--keep", "1", "--dry-run"]
    at = {"VITRINE_URL": str(aged.client.base_url)}

    told = vitrine(*command, variables=at)
    as_json = vitrine(*command, "--json", variables=at)

    assert (0, 0) == (told.returncode, as_json.returncode), told.stderr + as_json.stderr
    assert "aged 4 kept: champion points at it" in told.stdout
    assert json.loads(as_json.stdout)["dry_run"]
    assert Path(aged.settings.versions_directory / "aged" / "JOB-aged-1").exists()


def test_an_unknown_model_cannot_be_pruned(aged: Server) -> None:
    answer = aged.client.post("/models/prune", json={"model": "nowhere"})

    assert (404, "/problems/unknown-model") == (answer.status_code, answer.json()["type"])


def test_imported_files_that_no_version_has_go_when_they_are_old(aged: Server, diabetes_artifact: Artifact) -> None:
    folder = aged.settings.imports_directory
    folder.mkdir(parents=True, exist_ok=True)
    needed, fresh, old = ("1" * 64, "2" * 64, "3" * 64)
    install(aged.settings, diabetes_artifact, "imported", "JOB-imported-1")
    card = aged.settings.versions_directory / "imported" / "JOB-imported-1" / CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "imported": {"file_sha256": needed}}))
    month_ago = datetime.now(UTC).timestamp() - 30 * 86_400
    for sha256 in (needed, fresh, old):
        stored_file(folder, sha256).write_bytes(b"")
    broken_off = folder / ".abc.writing"
    broken_off.mkdir()
    for path in (stored_file(folder, needed), stored_file(folder, old), broken_off):
        os.utime(path, (month_ago, month_ago))

    of_one_model = prune(aged, model="imported", dry_run=True)["imports"]
    said = prune(aged, dry_run=True)["imports"]
    held = sorted(path.name for path in folder.iterdir())
    done = prune(aged)["imports"]

    assert ([], [old], [old]) == (of_one_model, said, done)
    assert 4 == len(held)
    assert [f"{needed}.keras", f"{fresh}.keras"] == sorted(path.name for path in folder.iterdir())
