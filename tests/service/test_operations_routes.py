"""Models, aliases, health, metrics, OpenAPI, over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import EIGHT, PATIENT, Server, install, point, wait_for

from models.artifact import Artifact


def test_the_api_process_never_imports_what_is_heavy(server: Server) -> None:
    server.client.post("/explain", json={"model": "diabetes", "inputs": [PATIENT]}, headers={"Accept": "image/png"})

    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()

    assert "onnxruntime" in mapped
    # Arrow may be there: it comes with the first body in its form (see the test below).
    heavy = ("tensorflow", "_pywrap", "llvmlite", "matplotlib", "sklearn", "skimage")
    assert [name for name in heavy if name in mapped] == []
    assert rss_mib(server.process.pid) < 300


def rss_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_importing_the_api_imports_nothing_heavy() -> None:
    import subprocess

    heavy = ("tensorflow", "keras", "shap", "matplotlib", "sklearn", "skimage", "scipy", "pyarrow", "PIL")
    code = f"import sys, service.app; print([name for name in {heavy} if name in sys.modules])"

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "[]"


def test_a_moved_alias_is_served_without_a_restart_and_rolls_back(server: Server, diabetes_artifact: Artifact) -> None:
    versions = [install(server.settings, diabetes_artifact, "moving", f"JOB-moving-{i}") for i in range(2)]
    alias = "/models/moving/aliases/champion"

    answers = [server.client.put(alias, json={"version": version}).json() for version in versions]
    second = server.client.post("/predict", json={"model": "moving", "inputs": [PATIENT]}).json()["version"]
    server.client.post("/models/moving/rollback", json={"reason": "worse"})
    first = server.client.post("/predict", json={"model": "moving", "inputs": [PATIENT]}).json()["version"]

    assert [answer["previous"] for answer in answers] == [None, 1]
    assert (second, first) == (2, 1)


def test_an_alias_moved_elsewhere_is_seen(server: Server, diabetes_artifact: Artifact) -> None:
    version = install(server.settings, diabetes_artifact, "elsewhere", "JOB-elsewhere")

    point(server.settings, "elsewhere", version)

    body = {"model": "elsewhere", "inputs": [PATIENT]}
    wait_for(lambda: server.client.post("/predict", json=body).status_code == 200)


def test_the_card_of_a_version_says_how_it_was_made(server: Server) -> None:
    card = server.client.get("/models/digits/versions/champion").json()

    assert (card["version"], card["job"], card["task"]) == (1, "JOB-digits", "classification")
    assert [("champion", True, "test")] == [(d["alias"], d["moved"], d["decided_by"]) for d in card["decisions"]]
    assert {"accuracy", "precision", "recall", "f1"} < card["evaluation"]["metrics"].keys()
    assert len(card["evaluation"]["confusion_matrix"]) == 10
    files = {"model.keras", "model.onnx", "signature.json", "background.npz", "card.json"}
    assert files | {"gradient-probability.onnx", "gradient-logit.onnx"} == card["files"].keys()


def test_metrics_count_requests_by_route_model_version_and_status(server: Server) -> None:
    labels = {"route": "/predict", "model": "digits", "version": "1", "status": "200", "method": "POST"}
    unknown = {**labels, "model": "unknown", "version": "unknown", "status": "404"}
    before = [counted(server, labels), counted(server, unknown)]

    server.client.post("/predict", json={"model": "digits", "inputs": [EIGHT]})
    for name in ("nope", "nope2"):
        server.client.post("/predict", json={"model": name, "inputs": [EIGHT]})

    assert [before[0] + 1, before[1] + 2] == [counted(server, labels), counted(server, unknown)]
    assert "nope" not in server.client.get("/metrics").text


def counted(server: Server, labels: dict[str, str]) -> float:
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples if sample.name == "vitrine_requests_total")
    return sum(sample.value for sample in samples if sample.labels == labels)


@pytest.mark.parametrize(
    "path", ["/health/ready", "/v2/health/live", "/v1/models/diabetes", "/models/diabetes", "/nope"]
)
def test_head_is_answered_as_get_without_the_body(server: Server, path: str) -> None:
    by_get, by_head = server.client.get(path), server.client.head(path)

    assert (by_get.status_code, b"") == (by_head.status_code, by_head.content)
    assert by_get.headers["content-type"] == by_head.headers["content-type"]
    assert by_get.headers["content-length"] == by_head.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "kind"), [("/predict/", "problem+json"), ("/v1/models/", "json"), ("/v2/models/diabetes/infer/", "json")]
)
def test_a_slash_too_many_is_no_redirection_to_another_scheme(server: Server, path: str, kind: str) -> None:
    answer = server.client.post(path, json={})

    assert (404, f"application/{kind}") == (answer.status_code, answer.headers["content-type"])
    assert path in answer.text


def test_the_openapi_examples_are_answered_as_documented(server: Server) -> None:
    document = server.client.get("/openapi.json").json()

    for path in ("/predict", "/explain"):
        operation = document["paths"][path]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        (example,) = content["examples"].values()
        answer = server.client.post(path, json=example["value"])
        documented = operation["responses"]["200"]["content"]["application/json"]["example"]
        assert answer.status_code == 200, answer.text
        assert documented.keys() == answer.json().keys()


@pytest.mark.parametrize(
    "path",
    [
        "/predict",
        "/explain",
        "/train",
        "/models",
        "/models/{model}/aliases/{alias}",
        "/metrics",
        "/explanations/{explanation}",
        "/predictions/{prediction}",
        "/predictions/{prediction}/explain",
    ],
)
def test_every_route_is_in_the_openapi_document(server: Server, path: str) -> None:
    assert path in server.client.get("/openapi.json").json()["paths"]


def test_every_reference_in_the_openapi_document_leads_somewhere(server: Server) -> None:
    document = server.client.get("/openapi.json").json()

    def references(value: Any) -> Iterator[str]:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from references(item)
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            yield value["$ref"]

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set() == set(references(document)) - known
    spec = document["paths"]["/train"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert 50 == spec["properties"]["training"]["properties"]["epochs"]["default"]
