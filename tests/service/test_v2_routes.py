"""The routes of V2 at a real server: its own forms, versions, the repository, what is counted, kept and explained."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from support import EIGHT, PATIENT, Server, point, succeeds, wait_for

from service.problems import CONTENT_TYPE, draining_problem, unexpected_problem, worded

MATRIX = {"name": "input", "shape": [1, 10], "datatype": "FP32", "data": PATIENT}
IMAGE = {"name": "image", "shape": [1, 8, 8], "datatype": "UINT8", "data": [EIGHT]}


def refusal(response: httpx.Response, status: int) -> str:
    """The one string of an error of V2."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    return response.json()["error"]


def test_a_version_without_onnx_is_served_too(server: Server) -> None:
    body = {"inputs": [MATRIX]}
    values = [
        server.client.post(f"/v2/models/{model}/infer", json=body).json()["outputs"][0]["data"][0]
        for model in ("diabetes", "keras-only")
    ]

    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert server.client.get("/v2/models/keras-only").json()["platform"] == "tensorflow_keras"
    assert server.client.get("/v2/models/keras-only/ready").json() == {"name": "keras-only", "ready": True}


def test_concurrent_requests_of_different_outputs_and_sizes_get_their_own_answers(server: Server) -> None:
    def ask(i: int) -> tuple[int, list[Any], list[float]]:
        rows = [[[(i * 7 + j + k * y) % 17 for k in range(8)] for y in range(8)] for j in range(1 + i % 5)]
        tensor = {"name": "image", "shape": [len(rows), 8, 8], "datatype": "UINT8", "data": rows}
        body = {"id": str(i), "inputs": [tensor], "outputs": [{"name": ("probability", "logit")[i % 2]}]}
        answer = server.client.post("/v2/models/digits/infer", json=body).json()
        assert answer["id"] == str(i)
        return len(rows), answer["outputs"][0]["name"], answer["outputs"][0]["data"]

    alone = [ask(i) for i in range(40)]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(ask, range(40)))

    for (n_rows, name, expected), (_, other, received) in zip(alone, together, strict=True):
        assert (name, len(received)) == (other, 10 * n_rows)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_faults_of_values_are_named_by_row_and_feature(server: Server) -> None:
    matrix = {"name": "input", "shape": [2, 10], "datatype": "FP32", "data": [*PATIENT, *PATIENT[:9], None]}
    image = {"name": "image", "shape": [1, 8, 8], "datatype": "INT8", "data": [[[*[0] * 7, 17], *[[0] * 8] * 7]]}

    missing = refusal(server.client.post("/v2/models/diabetes/infer", json={"inputs": [matrix]}), 400)
    pixel = refusal(server.client.post("/v2/models/digits/infer", json={"inputs": [image]}), 400)

    assert "row 1, 's6': expected a finite number, received" in missing
    assert "row 0, [0, 7" in pixel
    assert "17" in pixel


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/diabetes/nothing/here", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/models/diabetes/versions/77/ready", 404),
        ("POST", "/v2", 405),
        ("DELETE", "/v2/models/diabetes", 405),
        ("GET", "/v2/models/diabetes/infer", 405),
        ("GET", "/v2/repository/index", 405),
    ],
)
def test_what_is_not_there_is_refused_in_the_protocol_s_form(
    server: Server, method: str, path: str, status: int
) -> None:
    assert refusal(server.client.request(method, path), status)


def test_limits_of_requests_are_told_in_the_protocol_s_form(narrow: Server) -> None:
    path, rows = "/v2/models/diabetes/infer", {**MATRIX, "shape": [9, 10], "data": PATIENT * 9}
    slow = {"X-Request-Timeout-Ms": "0.001"}

    assert "1,048,576 bytes" in refusal(narrow.client.post(path, content=b" " * (2**20 + 1)), 413)
    assert "from 1 to 8 rows" in refusal(narrow.client.post(path, json={"inputs": [rows]}), 400)
    assert "0.001 ms" in refusal(narrow.client.post(path, json={"inputs": [MATRIX]}, headers=slow), 504)
    assert refusal(narrow.client.post(path, json={}, headers={"X-Request-Timeout-Ms": "soon"}), 400)
    assert refusal(narrow.client.post(path, content=b"x", headers={"Content-Encoding": "br"}), 415)


def test_errors_of_the_server_itself_have_the_protocol_s_form_under_its_paths_alone() -> None:
    for problem in (draining_problem(), unexpected_problem("01X")):
        status, body, kind = worded(problem, "/v2/models/m/infer")

        assert (status, orjson.loads(body), kind) == (
            problem["status"],
            {"error": problem["detail"]},
            "application/json",
        )
        assert worded(problem, "/v2x")[2] == worded(problem, "/predict")[2] == CONTENT_TYPE
    conflict = {
        "status": 409,
        "title": "T",
        "detail": "D",
        "errors": [{"pointer": "#/a", "expected": "b", "received": "c"}] * 20,
    }
    assert worded(conflict | {"error_count": 20}, "/v2")[0] == 400
    assert orjson.loads(worded(conflict | {"error_count": 20}, "/v2")[1])["error"].endswith("; and 10 more")
    assert worded(conflict | {"status": 507, "errors": []}, "/v2")[0] == 500


def index_of(server: Server) -> dict[str, str]:
    return {entry["version"]: entry["state"] for entry in server.client.post("/v2/repository/index").json()}


def test_loaded_versions_stay_until_they_are_unloaded(narrow: Server) -> None:
    repository, infer = "/v2/repository/models/diabetes", "/v2/models/diabetes/versions/{}/infer"
    assert narrow.client.get("/v2/models/diabetes/versions/2/ready").status_code == 503

    loaded = narrow.client.post(f"{repository}/load", json={"parameters": {"version": "2"}})
    for version in (3, 4):
        narrow.client.post(infer.format(version), json={"inputs": [MATRIX]}).raise_for_status()

    assert loaded.json() == {"name": "diabetes", "load": True, "version": "2"}
    assert narrow.client.get("/v2/models/diabetes/versions/2/ready").status_code == 200
    states = index_of(narrow)
    assert [states[version] for version in "1234"] == ["READY", "READY", "UNAVAILABLE", "READY"]

    refused = narrow.client.post(f"{repository}/unload", json={"parameters": {"unload_dependents": False}})
    unloaded = narrow.client.post(f"{repository}/unload", json={"parameters": {"version": 2}})

    assert "version 1 is served as champion" in refusal(refused, 400)
    assert unloaded.json() == {"name": "diabetes", "unload": True, "versions": ["2"]}
    assert index_of(narrow)["2"] == "UNAVAILABLE"
    again = narrow.client.post(infer.format(2), json={"inputs": [MATRIX]})
    assert again.json()["model_version"] == "2"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("index", {"ready": "yes"}), ("index", {"more": 1}), ("models/diabetes/load", {"parameters": []}),
        ("models/diabetes/load", {"parameters": {"file:1/model.onnx": ""}}), ("models/diabetes/load", {"x": 1}),
        ("models/diabetes/unload", {"parameters": {"unload_dependents": 1}}),
        ("models/diabetes/unload", {"parameters": {"version": [1]}}), ("models/diabetes/unload", [1]),
    ],
)  # fmt: skip
def test_requests_of_the_repository_that_cannot_be_used_are_refused(server: Server, path: str, body: Any) -> None:
    assert refusal(server.client.post(f"/v2/repository/{path}", json=body), 400)


def test_unknown_versions_are_not_loaded(server: Server) -> None:
    for action in ("load", "unload"):
        asked = server.client.post(f"/v2/repository/models/diabetes/{action}", json={"parameters": {"version": "9"}})
        assert "no version or alias '9'" in refusal(asked, 404)


def test_requests_are_counted_under_their_templates_with_model_and_version(narrow: Server) -> None:
    for path in ("/v2/models/diabetes/infer", "/v2/models/diabetes/versions/1/infer"):
        narrow.client.post(path, json={"inputs": [MATRIX]}).raise_for_status()
    narrow.client.get("/v2/models/diabetes/versions/1").raise_for_status()

    text = narrow.client.get("/metrics").text

    labels = 'method="POST",model="diabetes",route="{}",status="200",version="1"'
    for route in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        assert f"vitrine_requests_total{{{labels.format(route)}}}" in text
    assert 'route="/v2/models/{model}/versions/{version}",status="200"' in text
    routes = set(re.findall(r'route="([^"]*)"', text))
    assert not [route for route in routes if "diabetes" in route]


def test_requests_that_name_no_version_follow_the_traffic_split(narrow: Server) -> None:
    point(narrow.settings, "diabetes", 5, alias="canary")
    wait_for(lambda: narrow.client.get("/v2/models/diabetes/versions/canary/ready").status_code == 200)
    narrow.client.put("/models/diabetes/traffic", json={"champion": 50, "canary": 50}).raise_for_status()

    def version_for(key: str, path: str = "infer") -> str:
        body, headers = {"inputs": [MATRIX]}, {"X-Traffic-Key": key}
        return narrow.client.post(f"/v2/models/diabetes/{path}", json=body, headers=headers).json()["model_version"]

    wait_for(lambda: {version_for(str(i)) for i in range(20)} == {"1", "5"})
    chosen = [version_for(str(i)) for i in range(20)]

    assert [version_for(str(i)) for i in range(20)] == chosen
    assert [version_for(str(i), "explain") for i in range(4)] == chosen[:4]
    assert {version_for(str(i), "versions/champion/infer") for i in range(20)} == {"1"}
    narrow.client.put("/models/diabetes/traffic", json={"champion": 100}).raise_for_status()


def test_predictions_are_recorded_like_those_of_predict(narrow: Server) -> None:
    answer = narrow.client.post("/v2/models/diabetes/infer", json={"inputs": [MATRIX], "id": "mine"}).json()

    path = f"/predictions/{answer['parameters']['prediction']}"
    record = wait_for(lambda: succeeds(narrow.client, path)).json()

    assert answer["id"] == "mine"
    np.testing.assert_allclose(record["inputs"], [PATIENT], rtol=1e-6)
    assert np.float32(record["predictions"][0]["value"]) == np.float32(answer["outputs"][0]["data"][0])
    without_id = narrow.client.post("/v2/models/diabetes/infer", json={"inputs": [MATRIX]}).json()
    wait_for(lambda: succeeds(narrow.client, f"/predictions/{without_id['id']}"))


def test_explanations_of_images_are_maps_as_explain_gives_them(server: Server) -> None:
    options = {"method": "occlusion", "target": ["3", "8"]}
    native = server.client.post("/explain", json={"model": "digits", "inputs": [EIGHT], **options}).json()
    heatmaps = [target["heatmap"]["attributions"] for target in native["explanations"][0]["targets"]]

    answer = server.client.post("/v2/models/digits/explain", json={"inputs": [IMAGE], "parameters": options}).json()

    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["attributions"]["shape"] == [1, 2, 8, 8]
    np.testing.assert_array_equal(np.reshape(outputs["attributions"]["data"], (2, 8, 8)), heatmaps)
    assert outputs["targets"]["data"] == ["3", "8"]
    assert outputs["stop_reasons"]["datatype"] == "BYTES"
    assert outputs["evaluations"]["data"] == [native["explanations"][0]["evaluations"]]
    assert all(isinstance(value, str | int | float | bool) for value in answer["parameters"].values())


def test_options_of_an_explanation_that_cannot_be_used_are_named_among_the_parameters(server: Server) -> None:
    def explain(model: str, tensor: dict[str, Any], **parameters: Any) -> httpx.Response:
        return server.client.post(f"/v2/models/{model}/explain", json={"inputs": [tensor], "parameters": parameters})

    assert "#/parameters/tolerance" in refusal(explain("diabetes", MATRIX, tolerance=2), 400)
    assert "#/parameters/top_k" in refusal(explain("diabetes", MATRIX, top_k=3), 400)
    assert "#/parameters/target" in refusal(explain("digits", IMAGE, target="ten"), 400)
    assert "grad-cam" in refusal(explain("diabetes", MATRIX, method="grad-cam"), 400)
    bad = {**MATRIX, "data": [*PATIENT[:9], None]}
    assert "row 0, 's6'" in refusal(explain("diabetes", bad), 400)


def test_the_openapi_document_has_the_routes_of_v2(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]

    described = paths["/v2/models/{model}/versions/{version}/infer"]["post"]
    assert set(described["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert "Inference-Header-Content-Length" in {parameter["name"] for parameter in described["parameters"]}
    assert sum(path.startswith("/v2") for path in paths) == 20
