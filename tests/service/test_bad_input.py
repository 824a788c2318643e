"""What a client does wrong is named, precisely and all at once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support import EIGHT, PATIENT, Server

NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
NAMED = dict(zip(NAMES, PATIENT, strict=True))
BREAST_CANCER = [0.5] * 30


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert status == response.status_code, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert f"/problems/{slug}" == document["type"]
    assert status == document["status"]
    return document


@pytest.mark.parametrize("route", ["/predict", "/explain"])
def test_an_unknown_model_is_404_with_the_names_that_exist(server: Server, route: str) -> None:
    document = problem(server.client.post(route, json={"model": "nope", "inputs": [[1]]}), 404, "unknown-model")

    assert {"breast-cancer", "diabetes", "digits"} <= set(document["available"])
    assert "'nope'" in document["detail"]


@pytest.mark.parametrize("version", [7, "7", "challenger", "no such"])
def test_an_unknown_version_is_404_with_those_that_exist(server: Server, version: Any) -> None:
    body = {"model": "diabetes", "version": version, "inputs": [PATIENT]}

    document = problem(server.client.post("/predict", json=body), 404, "unknown-version")

    assert {"1", "champion"} <= set(document["available"])


@pytest.mark.parametrize("route", ["/predict", "/explain"])
def test_every_fault_of_every_row_is_named_by_pointer_expected_and_received(server: Server, route: str) -> None:
    first = {**NAMED, "age": "old", "sex": None, "bmi": True, "surplus": 1}
    del first["bp"]

    document = problem(
        server.client.post(route, json={"model": "diabetes", "inputs": [first, PATIENT, [1, 2], 5]}),
        422,
        "invalid-rows",
    )

    received = {error["pointer"]: error["received"] for error in document["errors"]}
    assert received == {
        "#/inputs/0/age": "the string 'old'",
        "#/inputs/0/sex": "null",
        "#/inputs/0/bmi": "the boolean true",
        "#/inputs/0/bp": "nothing",
        "#/inputs/0/surplus": "the number 1",
        "#/inputs/2": "2 values",
        "#/inputs/3": "the number 5",
    }
    assert all(error["expected"] for error in document["errors"])
    assert document["error_count"] == 7


def test_a_misshapen_image_and_a_pixel_out_of_range_are_named(server: Server) -> None:
    bright = [line.copy() for line in EIGHT]
    bright[2][3] = 255

    document = problem(
        server.client.post("/predict", json={"model": "digits", "inputs": [EIGHT[:7], bright]}), 422, "invalid-rows"
    )

    assert [error["pointer"] for error in document["errors"]] == ["#/inputs/0", "#/inputs/1/2/3"]
    assert document["errors"][1]["expected"] == "a number from 0 to 16"


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_no_json_and_their_places_are_named(server: Server, token: str) -> None:
    body = f'{{"model": "diabetes", "inputs": [[59, 2, {token}, 101, 157, 93.2, 38, 4, 4.8598, 87]]}}'

    document = problem(post_text(server, body), 400, "not-readable")

    assert [error["pointer"] for error in document["errors"]] == ["#/inputs/0/2"]


@pytest.mark.parametrize("body", ["", "{", "[1,", "hello", '{"model": "diabetes"} x', "\xff"])
def test_what_is_not_json_is_400(server: Server, body: str) -> None:
    problem(post_text(server, body), 400, "not-readable")


def post_text(server: Server, body: str) -> httpx.Response:
    return server.client.post("/predict", content=body.encode("latin-1"), headers={"Content-Type": "application/json"})


def test_another_content_type_is_415(server: Server) -> None:
    response = server.client.post("/predict", content=b"a,b\n1,2", headers={"Content-Type": "text/plain"})

    assert "application/json" in problem(response, 415, "wrong-content-type")["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_413_announced_or_not(server: Server, announced: bool) -> None:
    limit = server.settings.body_limit_bytes
    chunks = (b" " * 2**20 for _ in range(limit // 2**20 + 1))
    content = b" " * (limit + 1) if announced else chunks

    response = server.client.post("/predict", content=content, headers={"Content-Type": "application/json"})

    problem(response, 413, "body-too-large")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"inputs": [PATIENT]}, {"#/model"}),
        ({"model": "diabetes"}, {"#/inputs"}),
        ({"model": "diabetes", "inputs": []}, {"#/inputs"}),
        ({"model": "diabetes", "inputs": PATIENT[0]}, {"#/inputs"}),
        ({"model": "diabetes", "inputs": [PATIENT], "modle": 1, "version": True}, {"#/modle", "#/version"}),
        ({"model": 3, "inputs": [PATIENT]}, {"#/model"}),
        ([1], {"#"}),
    ],
)
def test_a_request_that_cannot_be_used_is_422_with_each_key(server: Server, body: Any, pointers: set[str]) -> None:
    document = problem(server.client.post("/predict", json=body), 422, "invalid-request")

    assert pointers == {error["pointer"] for error in document["errors"]}


def test_too_many_rows_are_refused(server: Server) -> None:
    body = {"model": "diabetes", "inputs": [PATIENT] * (server.settings.max_rows + 1)}

    assert "1025 rows" in problem(server.client.post("/predict", json=body), 422, "invalid-request")["detail"]


@pytest.mark.parametrize(
    ("model", "row", "method", "fits", "misfits"),
    [
        ("diabetes", PATIENT, "shapp", {"auto", "exact", "kernel", "permutation", "expected-gradients"}, {"rise"}),
        ("diabetes", PATIENT, "grad-cam", {"exact", "kernel", "occlusion", "shap.exact"}, {"grad-cam", "layer-cam"}),
        ("breast-cancer", BREAST_CANCER, "exact", {"kernel", "partition"}, {"exact", "shap.exact", "rise"}),
        ("digits", EIGHT, "exact", {"kernel", "grad-cam", "rise", "expected-gradients"}, {"exact", "shap.exact"}),
    ],
)
def test_an_unknown_or_misfitting_method_is_422_with_those_that_fit(
    server: Server, model: str, row: Any, method: str, fits: set[str], misfits: set[str]
) -> None:
    body = {"model": model, "inputs": [row], "method": method}

    document = problem(server.client.post("/explain", json=body), 422, "method-does-not-fit")

    assert "auto" == document["available"][0]
    assert fits <= set(document["available"])
    assert set() == misfits & set(document["available"])


@pytest.mark.parametrize(
    ("extra", "pointer"),
    [
        ({"target": "no such"}, "#/target"),
        ({"target": ["progression", "x"]}, "#/target/1"),
        ({"output": "logit"}, "#/output"),
        ({"options": {"baseline": 0}}, "#/options/baseline"),
        ({"tolerance": 0}, "#/tolerance"),
        ({"deadline_ms": -1}, "#/deadline_ms"),
        ({"seed": -1}, "#/seed"),
        ({"top_k": 0}, "#/top_k"),
        ({"nsamples": 10}, "#/nsamples"),
    ],
)
def test_a_misfitting_option_of_an_explanation_is_422(server: Server, extra: dict[str, Any], pointer: str) -> None:
    body = {"model": "diabetes", "inputs": [PATIENT], **extra}

    document = problem(server.client.post("/explain", json=body), 422, "invalid-request")

    assert pointer in [error["pointer"] for error in document["errors"]]


def test_a_budget_that_is_too_small_says_what_is_needed(server: Server) -> None:
    body = {"model": "diabetes", "inputs": [PATIENT], "method": "exact", "budget": 100}

    assert "at least" in problem(server.client.post("/explain", json=body), 422, "budget-too-small")["detail"]


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"model": "x", "dataset": {"builtin": "nope"}}, "#/dataset/builtin"),
        ({"model": "x", "dataset": {"path": "missing.csv"}}, "#/dataset/path"),
        ({"model": "x"}, "#/dataset"),
        ({"model": "Bad Name", "dataset": {"builtin": "iris"}}, "#/model"),
        ({"model": "x", "dataset": {"builtin": "iris"}, "trainng": {}}, "#/trainng"),
        ({"model": "x", "dataset": {"builtin": "iris"}, "training": {"epoch": 3}}, "#/training/epoch"),
        (
            {"model": "x", "dataset": {"builtin": "iris"}, "architecture": {"type": "cnn", "layers": [4]}},
            "#/architecture/type",
        ),
        ([], "#"),
    ],
)
def test_a_spec_that_cannot_be_run_is_422_and_nothing_is_queued(server: Server, spec: Any, pointer: str) -> None:
    before = server.client.get("/train").json()

    document = problem(server.client.post("/train", json=spec), 422, "invalid-spec")

    assert pointer in [error["pointer"] for error in document["errors"]]
    assert before == server.client.get("/train").json()


def test_unknown_places_methods_and_parameters_are_problem_documents(server: Server) -> None:
    for response, status in (
        (server.client.get("/nothing"), 404),
        (server.client.delete("/models"), 405),
        (server.client.get("/train?limit=0"), 422),
        (server.client.get("/train/NO-SUCH-JOB"), 404),
        (server.client.get("/models/nope"), 404),
        (server.client.get("/models/diabetes/versions/9"), 404),
        (server.client.put("/models/diabetes/aliases/BAD", json={"version": 1}), 422),
    ):
        assert status == response.status_code, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} <= response.json().keys()
