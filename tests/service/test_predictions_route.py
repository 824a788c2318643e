"""`GET /predictions/{id}` and its explanation, over HTTP: by the version that answered, whatever serves now."""

from __future__ import annotations

import json
import signal
import sqlite3
from time import monotonic
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from commands import vitrine
from support import (
    EIGHT,
    PATIENT,
    Server,
    database_of,
    free_port,
    install,
    locked_by_another_process,
    point,
    running,
    succeeds,
    wait_for,
)

from models.artifact import Artifact
from models.registry import versions_table
from service.settings import Settings
from vitrine import Client, VitrineError

DIABETES = {"model": "diabetes", "inputs": [PATIENT, [x * 0.9 for x in PATIENT]]}
NAMES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


def predict(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    response = server.client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def recorded(server: Server, prediction: str) -> dict[str, Any]:
    return wait_for(lambda: succeeds(server.client, f"/predictions/{prediction}")).json()


def explain(server: Server, prediction: str, **options: Any) -> httpx.Response:
    recorded(server, prediction)
    return server.client.post(f"/predictions/{prediction}/explain", json=options)


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"]


def figure(server: Server, name: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


def test_a_prediction_is_found_by_its_id_with_what_it_was_made_from(recording: Server) -> None:
    row = {**dict(zip(NAMES, PATIENT, strict=True)), "progression": "dropped"}
    answered = predict(recording, {"model": "diabetes", "inputs": [row]})

    found = recorded(recording, answered["id"])

    assert found.pop("created_at").startswith("20")
    assert found == {**answered, "inputs": [row], "redacted": []}


def test_a_prediction_of_which_v2_answered_the_log_odds_alone_is_recorded_with_its_probabilities(
    recording: Server,
) -> None:
    image = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": np.ravel(EIGHT).tolist()}
    body = {"inputs": [image], "outputs": [{"name": "logit"}]}

    answered = recording.client.post("/v2/models/digits/infer", json=body).json()

    record = recorded(recording, answered["id"])
    assert ["logit"] == [output["name"] for output in answered["outputs"]]
    assert record["predictions"] == predict(recording, {"model": "digits", "inputs": [EIGHT]})["predictions"]


def test_a_prediction_is_explained_by_the_version_that_made_it_when_another_is_champion(recording: Server) -> None:
    answered = predict(recording, DIABETES)
    recording.client.put("/models/diabetes/aliases/champion", json={"version": 2})
    moved = wait_for(lambda: (now := predict(recording, DIABETES))["version"] == 2 and now)

    explained = explain(recording, answered["id"], top_k=3).json()
    directly = recording.client.post("/explain", json={**DIABETES, "version": 1, "top_k": 3}).json()
    without_body = recording.client.post(f"/predictions/{answered['id']}/explain").json()
    recording.client.put("/models/diabetes/aliases/champion", json={"version": 1})
    wait_for(lambda: predict(recording, DIABETES)["version"] == 1)

    assert (explained["model"], explained["version"]) == ("diabetes", 1)
    assert explained["explanations"] == directly["explanations"]
    assert answered["predictions"] == [row["prediction"] for row in explained["explanations"]]
    assert answered["predictions"] != moved["predictions"]
    assert len(without_body["explanations"][0]["targets"][0]["attributions"]) == 10
    # It is an explanation as any other.
    assert recording.client.post(f"/explanations/{explained['id']}/replay").json()["identical"]


def test_rows_of_a_recorded_prediction_are_chosen_drawn_and_explained_later(recording: Server) -> None:
    answered = predict(recording, DIABETES)
    image = predict(recording, {"model": "digits", "inputs": [EIGHT]})

    second = explain(recording, answered["id"], rows=[1]).json()
    beyond = explain(recording, answered["id"], rows=[0, 2])
    place = f"/predictions/{answered['id']}/explain"
    drawn = [
        recording.client.post(place, json={"rows": [0]}, headers={"Accept": "image/png"}),
        recording.client.post(place, json={}, headers={"Accept": "image/png"}),
    ]
    later = recording.client.post(place, json={}, headers={"Prefer": "respond-async"})
    pixels = explain(recording, image["id"], budget=200).json()

    assert [row["prediction"] for row in second["explanations"]] == answered["predictions"][1:]
    assert problem(beyond) == (422, "/problems/invalid-request")
    assert [("#/rows/1", "a row of the request, 0 to 1")] == [
        (fault["pointer"], fault["expected"]) for fault in beyond.json()["errors"]
    ]
    assert [200, 422] == [picture.status_code for picture in drawn]
    assert drawn[0].headers["content-type"] == "image/png"
    assert (later.status_code, later.headers["location"][:14]) == (202, "/explanations/")
    assert pixels["explanations"][0]["prediction"] == image["predictions"][0]


def test_options_that_are_not_of_an_explanation_are_refused_by_name(recording: Server) -> None:
    answered = predict(recording, DIABETES)

    refused = explain(recording, answered["id"], model="digits", rows=[-1])

    assert problem(refused) == (422, "/problems/invalid-request")
    assert {"#/model", "#/rows/0"} == {fault["pointer"] for fault in refused.json()["errors"]}


def test_what_was_not_recorded_is_unknown_and_the_answer_says_what_is(recording: Server, server: Server) -> None:
    answered = server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]}).json()

    nowhere = recording.client.get("/predictions/01M7Y64DPFKBG9HYXS84MFC5AM")
    off = server.client.post(f"/predictions/{answered['id']}/explain")

    assert problem(nowhere) == problem(off) == (404, "/problems/unknown-prediction")
    assert "records all predictions" in nowhere.json()["detail"]
    assert "records no predictions (VITRINE_RECORD_PREDICTIONS)" in off.json()["detail"]


def test_a_version_that_recorded_predictions_need_is_not_pruned_and_one_that_is_gone_is_said_to_be(
    recording: Server,
) -> None:
    answered = predict(recording, {**DIABETES, "version": 3})
    recorded(recording, answered["id"])

    kept = recording.client.post("/models/prune", json={"model": "diabetes", "keep_versions": 1, "dry_run": True})
    place = (versions_table.c.model == "diabetes", versions_table.c.version == 3)
    with database_of(recording.settings) as engine, engine.begin() as connection:
        connection.execute(sa.delete(versions_table).where(*place))  # by hand
    gone = wait_for(lambda: (r := explain(recording, answered["id"])).status_code == 410 and r)

    assert (3, "predictions of it are recorded") in [
        (version["version"], version["reason"]) for version in kept.json()["kept"]
    ]
    assert problem(gone) == (410, "/problems/version-gone")
    assert "version 3 of 'diabetes', which has been deleted" in gone.json()["detail"]
    assert recorded(recording, answered["id"])["predictions"] == answered["predictions"]


def test_a_locked_database_delays_no_prediction_and_loses_no_record(recording: Server) -> None:
    with locked_by_another_process(recording.settings.home / "vitrine.sqlite"):
        started = monotonic()
        during = [predict(recording, DIABETES)["id"] for _ in range(20)]
        seconds = monotonic() - started
        degraded = wait_for(lambda: (r := recording.client.get("/health/ready").json())["problems"] and r)
        waiting = figure(recording, "vitrine_prediction_records_waiting")
    wait_for(lambda: figure(recording, "vitrine_prediction_records_waiting") == 0)

    assert seconds < 10
    assert degraded["status"] == "degraded"
    assert "predictions are answered but not recorded: database is locked" in " ".join(degraded["problems"])
    assert waiting == 20
    assert figure(recording, 'vitrine_prediction_records_total{outcome="dropped"}') == 0
    assert all(recorded(recording, each) for each in during)


def test_the_client_finds_and_explains_what_it_has_predicted(recording: Server) -> None:
    with Client(str(recording.client.base_url)) as vitrine:
        answer = vitrine.predict_answer("diabetes", DIABETES["inputs"])
        recorded(recording, answer["id"])
        found = vitrine.prediction(answer["id"])
        explained = vitrine.explain_prediction(answer["id"], rows=[1], top_k=2)
        with pytest.raises(VitrineError, match="no recorded prediction"):
            vitrine.prediction("01M7Y64DPFKBG9HYXS84MFC5AM")

    assert found["predictions"] == answer["predictions"]
    assert explained["explanations"][0]["prediction"] == answer["predictions"][1]
    assert len(explained["explanations"][0]["targets"][0]["attributions"]) == 2


def test_the_command_line_shows_and_explains_a_recorded_prediction(recording: Server) -> None:
    answered = predict(recording, DIABETES)
    recorded(recording, answered["id"])

    def printed(*arguments: str) -> str:
        done = vitrine("predictions", *arguments, variables={"VITRINE_URL": str(recording.client.base_url)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = printed("show", answered["id"])
    explained = printed("explain", answered["id"], "--row", "1", "--top-k", "2")
    as_json = json.loads(printed("show", answered["id"], "--json"))

    assert all(f"{prediction['value']:.6g}" in shown for prediction in answered["predictions"])
    assert "diabetes 1, row 0: progression" in explained
    assert as_json["id"] == answered["id"]


@pytest.mark.long
def test_redacted_values_are_nowhere_and_what_waits_is_written_when_the_server_ends(
    tmp_path_factory: pytest.TempPathFactory, diabetes_artifact: Artifact
) -> None:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(
        home=home, port=free_port(), refresh_ms=100, record_predictions=1.0, redacted_features=("bmi", "name, full")
    )
    settings.prepare_home()
    point(settings, "diabetes", install(settings, diabetes_artifact, "diabetes", "JOB"))
    secret = [*PATIENT[:2], 32.109375, *PATIENT[3:]]
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        answered = predict(server, {"model": "diabetes", "inputs": [secret]})
        found = recorded(server, answered["id"])
        refused = [explain(server, answered["id"])]
        explained = server.client.post("/explain", json={"model": "diabetes", "inputs": [secret]}).json()
        record = server.client.get(f"/explanations/{explained['id']}").json()
        refused.append(server.client.post(f"/explanations/{explained['id']}/replay"))
        last = [predict(server, {"model": "diabetes", "inputs": [secret]})["id"] for _ in range(30)]
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(120)

    assert found["inputs"] == [[*PATIENT[:2], None, *PATIENT[3:]]]
    assert found["redacted"] == ["bmi"]
    assert [(409, "/problems/inputs-redacted")] * 2 == [problem(each) for each in refused]
    assert all("the values of bmi were redacted" in each.json()["detail"] for each in refused)
    shares, answered_shares = (
        document["explanations"][0]["targets"][0]["attributions"] for document in (record, explained)
    )
    assert shares == [{**share, "value": None} if share["feature"] == "bmi" else share for share in answered_shares]
    assert status == 0
    with sqlite3.connect(home / "vitrine.sqlite") as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM predictions ORDER BY id")]
        content = str(
            [connection.execute(f"SELECT * FROM {name}").fetchall() for name in ("predictions", "explanations")]
        )
    connection.close()
    assert ids == sorted([answered["id"], *last])
    assert "32.109" not in content
