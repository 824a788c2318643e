"""The OpenAPI document: it describes every answer, and a running server keeps to all of it, whatever it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import schemathesis
from support import PATIENT, Server, explains, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from service.settings import Settings


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory, digits_artifact: Artifact, diabetes_artifact: Artifact
) -> Iterator[Server]:
    """A server of its own, for aliases are moved and versions pruned, that records all. There is no worker: jobs that
    are accepted wait."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port(), refresh_ms=100, record_predictions=1)
    settings.prepare_home()
    for model, artifact in (("digits", digits_artifact), ("diabetes", diabetes_artifact)):
        for job in ("A", "B"):
            install(settings, artifact, model, f"JOB-{job}-{model}")
        point(settings, model, 1)
        point(settings, model, 2, alias="challenger")
    with running(settings, "serve") as server:
        wait_for(lambda: explains(server))
        yield server


@pytest.fixture(scope="module")
def document(demo: Server) -> dict[str, Any]:
    return demo.client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield path, verb, operation


def test_every_json_that_is_answered_has_a_schema(document: dict[str, Any]) -> None:
    without = [
        (path, verb, status)
        for path, verb, operation in operations(document)
        for status, response in operation["responses"].items()
        for media, said in response.get("content", {}).items()
        if media == "application/json" and not said.get("schema")
    ]

    assert without == []


def test_errors_have_the_form_of_their_path(document: dict[str, Any]) -> None:
    for path, verb, operation in operations(document):
        in_protocol = path.startswith(("/v1", "/v2"))
        form = ("application/json", "ProtocolError") if in_protocol else ("application/problem+json", "Problem")
        errors = {status: said for status, said in operation["responses"].items() if int(status) >= 400}
        for status, said in errors.items():
            assert said["content"][form[0]]["schema"]["$ref"].endswith(form[1]), (path, verb, status)
        assert errors.keys() >= {"500", "503", "504", "400" if in_protocol else "422"}
        assert ("requestBody" not in operation) or errors.keys() >= {"400", "408", "413", "415"}
        assert ("422" in errors) is not in_protocol
    assert not [name for name in document["components"]["schemas"] if "ValidationError" in name]


@pytest.fixture(scope="module")
def ids(demo: Server) -> dict[str, str]:
    """A job, a recorded prediction, an explanation and a data set."""
    rows = {"model": "diabetes", "inputs": [PATIENT]}
    job = demo.client.post("/train", json={"model": "iris", "dataset": {"builtin": "iris"}}).json()["job"]
    prediction = demo.client.post("/predict", json=rows).json()["id"]
    explanation = demo.client.post("/explain", json=rows).json()["id"]
    dataset = demo.client.post("/datasets", files={"file": ("few.csv", b"a,b\n1,2\n3,4\n")}).json()["id"]
    wait_for(lambda: succeeds(demo.client, f"/predictions/{prediction}"))
    return {"JOB": job, "PREDICTION": prediction, "EXPLANATION": explanation, "DATASET": dataset}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_no_request_is_answered_otherwise_than_the_document_says(
    demo: Server, document: dict[str, Any], ids: dict[str, str], tmp_path: Path
) -> None:
    run = schemathesis(
        str(demo.client.base_url).rstrip("/"),
        tmp_path,
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "2", "--generation-database", "none"),
        ids=ids,
        seconds=500,
    )

    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    assert f"{len(list(operations(document)))} selected" in run.stdout
    assert "Traceback" not in demo.log


@pytest.mark.soak
def test_no_sequence_of_many_requests_is_answered_otherwise_either(
    demo: Server, ids: dict[str, str], tmp_path: Path
) -> None:
    run = schemathesis(
        str(demo.client.base_url).rstrip("/"),
        tmp_path,
        *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "40", "--generation-database", "none"),
        ids=ids,
        seconds=1100,
    )

    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    assert "Traceback" not in demo.log
