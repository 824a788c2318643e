"""Versions that are damaged, gated or moved, and a registry that is locked or gone: what a client is told."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import PATIENT, Server, free_port, install, point, registry_of, running, succeeds, wait_for

from models.artifact import Artifact
from models.registry import CHAMPION
from service.identifiers import new_id
from service.settings import Settings

FILES = ("model.keras", "model.onnx", "signature.json", "background.npz", "card.json", "manifest.json")
PASSED = {"gate": "r2", "passed": True, "value": 0.5, "limit": 0.4}
FAILED = {"gate": "r2", "passed": False, "value": 0.3, "limit": 0.4}


@pytest.fixture(scope="module")
def fragile(server: Server, diabetes_artifact: Artifact) -> Path:
    """`fragile`: version 1 is its champion; the folder is that of version 2."""
    for i in (1, 2):
        install(server.settings, diabetes_artifact, "fragile", f"JOB-fragile-{i}")
    put(server, "fragile", {"version": 1}).raise_for_status()
    return server.settings.versions_directory / "fragile" / "JOB-fragile-2"


@pytest.fixture
def damaged(fragile: Path) -> Iterator[Path]:
    """Version 2 of `fragile`, to damage; it is whole again afterwards."""
    kept = fragile.with_name("kept")
    shutil.copytree(fragile, kept)
    yield fragile
    shutil.rmtree(fragile)
    kept.rename(fragile)


@pytest.fixture(scope="module")
def shaky(tmp_path_factory: pytest.TempPathFactory, diabetes_artifact: Artifact) -> Iterator[Server]:
    """A server of its own, started over `broken`, whose champion's model.onnx is truncated, and `whole`."""
    settings = Settings(home=tmp_path_factory.mktemp("shaky"), port=free_port(), refresh_ms=100)
    settings.prepare_home()
    for model in ("broken", "whole"):
        install(settings, diabetes_artifact, model, f"JOB-{model}")
        point(settings, model, 1)
    truncate(settings.versions_directory / "broken" / "JOB-broken" / "model.onnx")
    with running(settings, "serve") as server:
        wait_for(lambda: predict(server, "whole").status_code == 200 if succeeds(server.client, "/health/live") else 0)
        yield server


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (name, fault)
        for name in FILES
        for fault in ("truncated", "changed", "missing")
        # A hash that was changed in the manifest shows as a file that does not fit it.
        if (name, fault) != ("manifest.json", "changed")
    ],
)
def test_an_alias_does_not_move_to_a_damaged_version_and_the_file_is_named(
    server: Server, damaged: Path, name: str, fault: str
) -> None:
    damage(damaged / name, fault)

    moved = put(server, "fragile", {"version": 2, "force": True, "reason": "all the same"})
    card = server.client.get("/models/fragile/versions/2")
    by_number = predict(server, "fragile", version=2)

    for refused in (moved, card, by_number):
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/corrupt-version")
    # Requests by number are told what was found when it was last tried.
    assert name in moved.json()["detail"]
    assert name in card.json()["detail"]
    assert server.client.get("/models/fragile").json()["aliases"] == {"champion": 1}
    assert predict(server, "fragile").json()["version"] == 1


def test_a_manifest_that_is_a_folder_is_named(server: Server, damaged: Path) -> None:
    (damaged / "manifest.json").unlink()
    (damaged / "manifest.json").mkdir()

    refused = put(server, "fragile", {"version": 2})

    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/corrupt-version")
    assert "manifest.json cannot be read" in refused.json()["detail"]


@pytest.mark.parametrize("name", FILES)
def test_moved_by_another_process_to_a_damaged_version_the_old_one_serves_on_until_it_is_moved_back(
    server: Server, diabetes_artifact: Artifact, name: str
) -> None:
    model = "moved-" + name.replace(".", "-")
    for i in (1, 2):
        install(server.settings, diabetes_artifact, model, f"JOB-{model}-{i}")
    put(server, model, {"version": 1}).raise_for_status()
    damage(server.settings.versions_directory / model / f"JOB-{model}-2" / name, "truncated")

    point(server.settings, model, 2)
    degraded = wait_for(lambda: (r := readiness(server)).json()["status"] == "degraded" and r)
    meanwhile = predict(server, model).json()["version"]
    with registry_of(server.settings) as registry:
        registry.rollback(model, by="another", reason="test")
    wait_for(lambda: readiness(server).json()["status"] == "ready")

    assert (degraded.status_code, meanwhile) == (200, 1)
    (problem,) = degraded.json()["problems"]
    assert problem.startswith(f"{model}/2: ")
    assert name in problem


def test_a_damaged_version_that_is_made_whole_is_taken_up_without_a_restart(
    server: Server, diabetes_artifact: Artifact
) -> None:
    for i in (1, 2):
        install(server.settings, diabetes_artifact, "mended", f"JOB-mended-{i}")
    put(server, "mended", {"version": 1}).raise_for_status()
    file = server.settings.versions_directory / "mended" / "JOB-mended-2" / "signature.json"
    whole = file.read_bytes()
    file.unlink()
    point(server.settings, "mended", 2)
    wait_for(lambda: readiness(server).json()["status"] == "degraded")

    file.write_bytes(whole)

    wait_for(lambda: readiness(server).json()["status"] == "ready")
    assert predict(server, "mended").json()["version"] == 2


def test_a_rollback_to_a_damaged_version_is_refused_and_nothing_moves(
    server: Server, diabetes_artifact: Artifact
) -> None:
    for i in (1, 2):
        install(server.settings, diabetes_artifact, "back", f"JOB-back-{i}")
        put(server, "back", {"version": i}).raise_for_status()
    (server.settings.versions_directory / "back" / "JOB-back-1" / "background.npz").unlink()

    refused = server.client.post("/models/back/rollback", json={"reason": "worse"})

    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/corrupt-version")
    assert "background.npz is missing" in refused.json()["detail"]
    assert server.client.get("/models/back").json()["aliases"] == {"champion": 2}


@pytest.mark.parametrize(
    ("gate", "body", "status", "forced"),
    [
        (PASSED, {}, 200, False),
        (PASSED, {"reason": "reviewed"}, 200, False),
        (PASSED, {"force": True}, 422, None),
        (PASSED, {"force": True, "reason": "reviewed"}, 200, False),
        (FAILED, {}, 409, None),
        (FAILED, {"reason": "reviewed"}, 409, None),
        (FAILED, {"force": False, "reason": "reviewed"}, 409, None),
        (FAILED, {"force": True}, 422, None),
        (FAILED, {"force": True, "reason": ""}, 422, None),
        (FAILED, {"force": True, "reason": " \n"}, 422, None),
        (FAILED, {"force": True, "reason": "reviewed"}, 200, True),
    ],
)
def test_failed_gates_are_overridden_only_by_force_with_a_reason(
    server: Server,
    diabetes_artifact: Artifact,
    gate: dict[str, Any],
    body: dict[str, Any],
    status: int,
    forced: bool | None,
) -> None:
    model = f"gated-{new_id().lower()}"
    install(server.settings, diabetes_artifact, model, f"JOB-{model}", gates=[gate])

    answer = server.client.put(f"/models/{model}/aliases/reviewed", json={"version": 1, **body})

    shown = server.client.get(f"/models/{model}").json()
    assert status == answer.status_code
    assert shown["aliases"] == ({} if forced is None else {"reviewed": 1})
    assert [move["forced"] for move in shown["moves"]] == ([] if forced is None else [forced])
    if status == 409:
        assert (answer.json()["type"], "r2" in answer.json()["detail"]) == ("/problems/gates-failed", True)
    if status == 422:
        assert answer.json()["errors"][0]["pointer"] == "#/reason"


def test_a_model_shows_its_alias_moves_newest_first_with_who_and_why(
    server: Server, diabetes_artifact: Artifact
) -> None:
    for i in (1, 2):
        install(server.settings, diabetes_artifact, "storied", f"JOB-storied-{i}", gates=[PASSED if i == 1 else FAILED])
    put(server, "storied", {"version": 1, "reason": "first"})
    put(server, "storied", {"version": 2, "reason": "looks good to me", "force": True})
    server.client.post("/models/storied/rollback", json={"reason": "it did not"})

    moves = server.client.get("/models/storied").json()["moves"]

    times = [move.pop("moved_at") for move in moves]
    assert times == sorted(times, reverse=True)
    common = {"alias": "champion", "moved_by": "api"}
    assert moves == [
        {**common, "previous": 2, "version": 1, "reason": "it did not", "forced": False, "rollback": True},
        {**common, "previous": 1, "version": 2, "reason": "looks good to me", "forced": True, "rollback": False},
        {**common, "previous": None, "version": 1, "reason": "first", "forced": False, "rollback": False},
    ]


def test_a_server_started_over_a_damaged_champion_serves_the_others_and_recovers(shaky: Server) -> None:
    file = shaky.settings.versions_directory / "broken" / "JOB-broken" / "model.onnx"

    before = readiness(shaky)
    refused, served = predict(shaky, "broken"), predict(shaky, "whole")
    shutil.copy(shaky.settings.versions_directory / "whole" / "JOB-whole" / "model.onnx", file)
    after = wait_for(lambda: succeeds(shaky.client, "/health/ready"))

    assert (before.status_code, before.json()["status"], list(before.json()["models"])) == (503, "degraded", ["whole"])
    assert any(text.startswith("broken/1: ") and "model.onnx" in text for text in before.json()["problems"])
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/corrupt-version")
    assert served.status_code == 200
    assert after.json()["status"] == "ready"
    assert predict(shaky, "broken").status_code == 200


def test_with_the_registry_locked_moves_are_503_and_reading_goes_on(shaky: Server) -> None:
    holder = sqlite3.connect(shaky.settings.home / "vitrine.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    refused = put(shaky, "whole", {"version": 1}, alias="locked")
    reading = [shaky.client.get(path).status_code for path in ("/models", "/models/whole", "/health/ready")]
    predicted = predict(shaky, "whole").status_code
    holder.execute("ROLLBACK")
    holder.close()
    moved = put(shaky, "whole", {"version": 1}, alias="locked")

    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/registry-unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert "sqlite" not in refused.text
    assert refused.elapsed.total_seconds() < 15
    assert [*reading, predicted] == [200] * 4
    assert moved.status_code == 200


def test_a_registry_that_has_vanished_is_503_and_not_a_new_empty_one(shaky: Server) -> None:
    held = [path for suffix in ("", "-wal", "-shm") if (path := database_file(shaky, suffix)).exists()]
    for path in held:
        path.rename(path.with_name(f"moved.{path.name}"))

    refused = [put(shaky, "whole", {"version": 1}, alias="gone"), shaky.client.get("/models")]
    degraded = wait_for(lambda: (r := readiness(shaky)).json()["status"] == "degraded" and r)
    predicted = predict(shaky, "whole").status_code
    made = database_file(shaky, "").exists()
    for path in held:
        path.with_name(f"moved.{path.name}").rename(path)
    wait_for(lambda: readiness(shaky).json()["status"] == "ready")

    assert [(r.status_code, r.json()["type"]) for r in refused] == [(503, "/problems/registry-unavailable")] * 2
    assert any("registry" in text for text in degraded.json()["problems"])
    assert (degraded.status_code, predicted, made) == (200, 200, False)
    assert "gone" not in shaky.client.get("/models/whole").json()["aliases"]
    assert shaky.log.count("the registry cannot be read") == 1


def put(server: Server, model: str, body: dict[str, Any], alias: str = CHAMPION) -> httpx.Response:
    return server.client.put(f"/models/{model}/aliases/{alias}", json=body)


def predict(server: Server, model: str, **body: Any) -> httpx.Response:
    return server.client.post("/predict", json={"model": model, "inputs": [PATIENT], **body})


def readiness(server: Server) -> httpx.Response:
    return server.client.get("/health/ready")


def database_file(server: Server, suffix: str) -> Path:
    return server.settings.home / f"vitrine.sqlite{suffix}"


def damage(path: Path, fault: str) -> None:
    if fault == "truncated":
        truncate(path)
    elif fault == "changed":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
