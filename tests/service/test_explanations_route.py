"""`GET /explanations/{id}` and replay, over HTTP."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from PIL import Image
from support import EIGHT, PATIENT, Server, database_of, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from models.database import in_rfc_3339
from service.records.store import explanations_table
from service.settings import Settings

DIABETES = {"model": "diabetes", "inputs": [PATIENT]}
DIGITS = {"model": "digits", "inputs": [EIGHT], "deadline_ms": 60_000}


def explain(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/explain", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def replay(client: httpx.Client, explanation: str) -> dict[str, Any]:
    response = client.post(f"/explanations/{explanation}/replay")
    assert response.status_code == 200, response.text
    return response.json()


def verdict(answer: dict[str, Any]) -> tuple[bool, float, list[str]]:
    return answer["identical"], answer["max_difference"], answer["differs_in"]


IDENTICAL = (True, 0.0, [])


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_an_explanation_is_found_by_its_id_as_it_was_answered(server: Server, accept: str) -> None:
    answered = server.client.post("/explain", json={**DIABETES, "top_k": 3})

    found = server.client.get(f"/explanations/{answered.json()['id']}", headers={"Accept": accept})

    assert (found.status_code, found.content) == (200, answered.content)
    assert answered.json()["receipt"]["recorded"] is True


def test_an_explanation_that_is_not_there_says_how_long_they_are_kept(server: Server) -> None:
    answers = [
        server.client.get("/explanations/01M7Y64DPFKBG9HYXS84MFC5AM"),
        server.client.post("/explanations/01M7Y64DPFKBG9HYXS84MFC5AM/replay"),
    ]

    assert {(404, "/problems/unknown-explanation")} == {(a.status_code, a.json()["type"]) for a in answers}
    assert all("7 days" in a.json()["detail"] and "POST /explain" in a.json()["detail"] for a in answers)


@pytest.mark.parametrize(
    "body",
    [
        {**DIABETES, "top_k": 3},
        {**DIABETES, "inputs": [PATIENT, [x * 0.9 for x in PATIENT]], "method": "expected-gradients"},
        {**DIGITS, "target": "all", "seed": 7, "tolerance": 0.3},
        {**DIGITS, "deadline_ms": 60, "tolerance": 1e-6},
        {**DIGITS, "budget": 90, "output": "logit"},
        {**DIABETES, "method": "kernel", "budget": 60_000, "seed": 3},
        {**DIABETES, "method": "kernel", "deadline_ms": 15, "tolerance": 1e-6},
        {"model": "keras-only", "inputs": [PATIENT], "method": "exact", "deadline_ms": 60_000},
    ],
    ids=["exact", "two rows", "tolerance", "deadline", "budget", "kernel", "kernel, deadline", "TensorFlow engine"],
)
def test_a_replay_gives_the_same_bits(server: Server, body: dict[str, Any]) -> None:
    answered = explain(server.client, **body)

    again = replay(server.client, answered["id"])

    assert IDENTICAL == verdict(again)
    assert answered["explanations"] == again["explanation"]["explanations"]
    assert answered["id"] == again["explanation"]["id"]
    assert answered["receipt"].keys() == again["explanation"]["receipt"].keys()


def test_a_replay_gives_the_same_bits_under_load(server: Server) -> None:
    bodies = [{**DIGITS, "deadline_ms": 40, "tolerance": 1e-6, "seed": seed} for seed in range(3)] + [DIABETES]
    answered = [explain(server.client, **body) for body in bodies]

    with ThreadPoolExecutor(6) as threads:
        load = [threads.submit(explain, server.client, **body) for body in bodies * 2]
        replayed = list(threads.map(lambda document: replay(server.client, document["id"]), answered))
        assert all(answer.result()["receipt"]["recorded"] for answer in load)

    assert [IDENTICAL] * len(bodies) == [verdict(again) for again in replayed]


def test_a_replay_says_by_how_much_and_in_what_it_differs(server: Server) -> None:
    answered = explain(server.client, **DIABETES)
    with database_of(server.settings) as engine, engine.begin() as connection:
        where = explanations_table.c.id == answered["id"]
        document = connection.execute(sa.select(explanations_table.c.document).where(where)).scalar_one()
        share = answered["explanations"][0]["targets"][0]["attributions"][2]["attribution"]
        # As another processor and another release might have made it.
        document = document.replace(repr(share), repr(share + 0.5)).replace('"seed":0', '"seed":0,"threads":2')
        document = document.replace(answered["receipt"]["instruction_set"], "neon")
        document = document.replace('"numpy":"', '"numpy":"0.')
        connection.execute(explanations_table.update().where(where).values(document=document))

    again = replay(server.client, answered["id"])

    assert (again["identical"], again["max_difference"]) == (False, pytest.approx(0.5))
    assert again["differs_in"] == ["instruction_set", "library_versions.numpy", "threads"]


def test_a_recorded_explanation_is_drawn_as_the_answered_one(server: Server) -> None:
    for body in (DIABETES, {**DIABETES, "top_k": 2}, {**DIGITS, "tolerance": 0.3}):
        drawn = server.client.post("/explain?width=400", json=body, headers={"Accept": "image/png"})

        found = server.client.get(
            f"/explanations/{drawn.headers['x-explanation-id']}?width=400", headers={"Accept": "image/png"}
        )

        assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
        assert Image.open(io.BytesIO(found.content)).tobytes() == Image.open(io.BytesIO(drawn.content)).tobytes()
        assert found.headers["x-explanation-id"] == drawn.headers["x-explanation-id"]


def test_a_picture_of_a_record_needs_one_row_and_one_target(server: Server) -> None:
    two_rows = explain(server.client, model="diabetes", inputs=[PATIENT, PATIENT])
    two_targets = explain(server.client, **DIGITS, target=["1", "8"], budget=200)

    answers = [
        server.client.get(f"/explanations/{document['id']}", headers={"Accept": "image/png"})
        for document in (two_rows, two_targets)
    ]

    assert [(422, "#/inputs"), (422, "#/target")] == [
        (answer.status_code, answer.json()["errors"][0]["pointer"]) for answer in answers
    ]


@contextmanager
def serving(settings: Settings) -> Iterator[Server]:
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        yield server


@pytest.mark.long
def test_a_record_outlives_a_kill_and_is_replayed_after_restart_rollback_and_loss_of_files(
    tmp_path: Path, digits_artifact: Artifact
) -> None:
    settings = Settings(home=tmp_path, port=free_port(), refresh_ms=100, loaded_versions=1)
    settings.prepare_home()
    for i in range(3):
        install(settings, digits_artifact, "digits", f"JOB-{i}")
    point(settings, "digits", 1)
    old = insert_old_record(settings)

    with serving(settings) as server:
        server.client.put("/models/digits/aliases/champion", json={"version": 2})
        answered = explain(server.client, **DIGITS | {"deadline_ms": 500, "tolerance": 1e-6})
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(120)
    with serving(settings) as server:
        server.client.post("/models/digits/rollback", json={})
        found = server.client.get(f"/explanations/{answered['id']}").json()
        again = replay(server.client, answered["id"])
        champion = explain(server.client, **DIGITS, budget=90)["version"]
        swept = wait_for(lambda: count_records(settings, old) == 0)
        (settings.versions_directory / "digits" / "JOB-1" / "model.onnx").unlink()
        # Another version takes the place of the one that was loaded for the replay.
        explain(server.client, **DIGITS, version=3, budget=90)
        lost = server.client.post(f"/explanations/{answered['id']}/replay")

    assert answered == found
    assert (answered["version"], champion) == (2, 1)
    assert IDENTICAL == verdict(again)
    assert swept
    assert (lost.status_code, lost.json()["type"]) == (503, "/problems/corrupt-version")
    assert "model.onnx is missing" in lost.json()["detail"]


def insert_old_record(settings: Settings) -> str:
    created_at = in_rfc_3339(datetime.now(UTC) - timedelta(days=7, seconds=1))
    values = {"id": "OLD", "created_at": created_at, "model": "digits", "version": 1, "request": "{}", "run": "{}"}
    with database_of(settings) as engine, engine.begin() as connection:
        connection.execute(explanations_table.insert().values(**values, document="{}"))
    return "OLD"


def count_records(settings: Settings, explanation: str) -> int:
    with database_of(settings) as engine, engine.begin() as connection:
        count = sa.select(sa.func.count()).where(explanations_table.c.id == explanation)
        return connection.execute(count).scalar_one()
