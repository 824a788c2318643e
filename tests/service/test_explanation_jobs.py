"""Explanations that are fetched later: of rows, and of a version over many rows."""

from __future__ import annotations

import io
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support import EIGHT, PATIENT, Server, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from service.settings import Settings

ASYNC = {"Prefer": "respond-async"}
ROWS = [PATIENT, [value * 0.9 for value in PATIENT], [value * 1.1 for value in PATIENT]]
SLOW = {"model": "digits", "inputs": [EIGHT] * 40, "tolerance": 1e-9, "deadline_ms": 40_000}


def later(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    """Asks for an explanation; returns where it will be."""
    response = client.post(path, json=body, headers=ASYNC)
    assert response.status_code == 202, response.text
    assert response.json()["status"] == "queued"
    return response.headers["location"]


def finished(client: httpx.Client, location: str) -> httpx.Response:
    return wait_for(lambda: r if (r := client.get(location)).status_code != 202 else None)


def test_rows_are_explained_later_as_they_are_at_once_and_can_be_replayed(server: Server) -> None:
    # Which method `auto` takes depends on what calls took, when it is asked.
    body = {"model": "diabetes", "inputs": ROWS, "seed": 3, "top_k": 4, "method": "exact"}

    at_once = server.client.post("/explain", json=body).json()
    fetched = finished(server.client, later(server.client, "/explain", body)).json()
    again = server.client.post(f"/explanations/{fetched['id']}/replay").json()

    assert at_once["explanations"] == fetched["explanations"]
    occasional = {"duration_ms": 0}
    assert at_once["receipt"] | occasional == fetched["receipt"] | occasional
    assert (True, 0.0, []) == (again["identical"], again["max_difference"], again["differs_in"])


def test_progress_is_told_until_it_is_done_and_others_are_answered_meanwhile(server: Server) -> None:
    location = later(server.client, "/explain", SLOW)

    begun = wait_for(
        lambda: p if (p := server.client.get(location).json()).get("progress", {}).get("rows", 0) > 0 else None
    )
    live = server.client.post("/explain", json={"model": "digits", "inputs": [EIGHT], "budget": 800})
    unfinished = server.client.get(location)
    cancelled = server.client.delete(location)
    gone = server.client.get(location)

    assert ("running", 40) == (begun["status"], begun["progress"]["total_rows"])
    assert 200 == live.status_code
    assert (202, "1") == (unfinished.status_code, unfinished.headers["retry-after"])
    assert 204 == cancelled.status_code
    assert (410, "/problems/explanation-cancelled") == (gone.status_code, gone.json()["type"])


def test_what_is_finished_or_not_there_cannot_be_cancelled(server: Server) -> None:
    location = later(server.client, "/explain", {"model": "diabetes", "inputs": [PATIENT]})
    finished(server.client, location)
    at_once = server.client.post("/explain", json={"model": "diabetes", "inputs": [PATIENT]}).json()["id"]

    answers = [server.client.delete(path) for path in (location, f"/explanations/{at_once}", "/explanations/NONE")]

    assert [409, 409, 404] == [answer.status_code for answer in answers]
    assert "/problems/explanation-state" == answers[0].json()["type"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/explain", {"model": "diabetes", "inputs": [["x"] * 10]}, 422),
        ("/explain", {"model": "nobody", "inputs": [PATIENT]}, 404),
        ("/explain", {"model": "diabetes", "inputs": [PATIENT], "method": "exact", "budget": 9}, 422),
        ("/explain/global", {"model": "diabetes", "method": "lime"}, 422),
        ("/explain/global", {"model": "diabetes", "inputs": [PATIENT]}, 422),
        ("/explain/global", {"model": "diabetes", "inputs": ROWS, "dataset": "test"}, 422),
        ("/explain/global", {"model": "diabetes", "target": "nothing"}, 422),
        ("/explain/global", {"model": "diabetes", "options": {"layer": "x"}}, 422),
        ("/explain/global", {"model": "diabetes", "dataset": "future"}, 422),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(server: Server, path: str, body: Any, status: int) -> None:
    response = server.client.post(path, json=body, headers=ASYNC)

    assert status == response.status_code


def test_what_turns_out_not_to_be_possible_says_so_as_if_it_had_been_asked_at_once(server: Server) -> None:
    body = {"model": "digits", "inputs": [EIGHT], "budget": 90, "tolerance": 1e-6, "strict": True}

    failed = finished(server.client, later(server.client, "/explain", body))

    assert (422, "/problems/tolerance-not-reached") == (failed.status_code, failed.json()["type"])


def test_a_global_explanation_ranks_features_with_intervals_and_dependence(
    server: Server, diabetes_artifact: Artifact
) -> None:
    rows = diabetes_artifact.background[0][:20].astype(float).tolist()

    document = finished(server.client, later(server.client, "/explain/global", {"model": "diabetes", "inputs": rows}))
    single = server.client.post("/explain", json={"model": "diabetes", "inputs": rows, "deadline_ms": 60_000}).json()

    (target,) = document.json()["targets"]
    magnitudes = {feature["feature"]: feature["mean_absolute_attribution"] for feature in target["features"]}
    shares = [
        {share["feature"]: abs(share["attribution"]) for share in row["targets"][0]["attributions"]}
        for row in single["explanations"]
    ]
    assert sorted(magnitudes.values(), reverse=True) == list(magnitudes.values())
    assert {name: np.mean([row[name] for row in shares]) for name in magnitudes} == pytest.approx(magnitudes)
    for feature in target["features"]:
        low, high = feature["interval"]
        assert low <= feature["mean_absolute_attribution"] <= high
        assert 20 == sum(group["rows"] for group in feature["dependence"])
    assert ("global", 20) == (document.json()["scope"], document.json()["rows"])
    assert "exact" == document.json()["receipt"]["method"]


def test_a_global_explanation_of_the_test_part_comes_as_a_table(server: Server) -> None:
    import pyarrow.parquet as parquet

    body = {"model": "diabetes", "dataset": "test", "max_rows": 15}
    location = later(server.client, "/explain/global", body)
    document = finished(server.client, location).json()

    response = server.client.get(location, headers={"Accept": "application/vnd.apache.parquet"})

    assert response.status_code == 200, response.text
    table = parquet.read_table(io.BytesIO(response.content)).to_pydict()
    columns = {"row", "target", "feature", "value", "attribution", "standard_error", "output", "base_value"}
    bmi = [abs(a) for a, feature in zip(table["attribution"], table["feature"], strict=True) if feature == "bmi"]
    stated = next(f for f in document["targets"][0]["features"] if f["feature"] == "bmi")
    assert ("test", 15) == (document["dataset"], document["rows"])
    assert columns == set(table)
    assert 150 == len(table["row"])
    assert stated["mean_absolute_attribution"] == pytest.approx(np.mean(bmi))


def test_a_global_explanation_is_drawn_in_three_ways(server: Server) -> None:
    body = {"model": "diabetes", "dataset": "background", "max_rows": 12}
    location = later(server.client, "/explain/global", body)
    finished(server.client, location)

    pictures = [
        server.client.get(f"{location}?plot={plot}&width=500", headers={"Accept": media})
        for plot in ("bar", "beeswarm", "dependence&feature=bmi")
        for media in ("image/png", "image/svg+xml")
    ]
    refused = [
        server.client.get(f"{location}?{query}", headers={"Accept": "image/png"})
        for query in ("plot=dependence", "plot=dependence&feature=nothing", "target=nothing", "plot=violin")
    ]

    assert [200] * 6 == [picture.status_code for picture in pictures], [p.text[:300] for p in pictures]
    assert all(picture.content.startswith(b"\x89PNG") for picture in pictures[::2])
    assert all(b"<svg" in picture.content for picture in pictures[1::2])
    assert [422] * 4 == [response.status_code for response in refused]


def test_a_global_explanation_of_images_is_a_heatmap_for_each_label(server: Server) -> None:
    body = {"model": "digits", "dataset": "background", "max_rows": 3, "target": ["3", "8"], "tolerance": 0.5}

    document = finished(server.client, later(server.client, "/explain/global", body)).json()

    heatmaps = [np.array(target["heatmap"]["mean_absolute_attributions"]) for target in document["targets"]]
    assert ["3", "8"] == [target["target"] for target in document["targets"]]
    assert all(heatmap.shape == (8, 8) and (heatmap >= 0).all() for heatmap in heatmaps)


def test_each_row_counts_for_its_own_label_where_that_is_asked(server: Server) -> None:
    body = {"model": "digits", "dataset": "test", "max_rows": 6, "target": "predicted", "tolerance": 0.5}

    document = finished(server.client, later(server.client, "/explain/global", body)).json()

    assert 6 == sum(target["rows"] for target in document["targets"])


@pytest.fixture
def settings(tmp_path: Path, digits_artifact: Artifact) -> Settings:
    settings = Settings(home=tmp_path, port=free_port(), refresh_ms=100)
    settings.prepare_home()
    install(settings, digits_artifact, "digits", "JOB")
    point(settings, "digits", 1)
    return settings


@pytest.mark.long
def test_a_job_outlives_the_death_of_the_server(settings: Settings) -> None:
    body = {**SLOW, "inputs": [EIGHT] * 8, "deadline_ms": 4_000, "budget": 12_800}
    with running(settings, "serve") as first:
        wait_for(lambda: succeeds(first.client, "/health/ready"))
        location = later(first.client, "/explain", body)
        wait_for(lambda: first.client.get(location).json()["status"] == "running")
        first.process.send_signal(signal.SIGTERM)
        first.process.wait(120)

    with running(settings, "serve") as second:
        wait_for(lambda: succeeds(second.client, "/health/ready"))
        done = finished(second.client, location)

    assert (200, 8) == (done.status_code, len(done.json()["explanations"]))
