"""TensorFlow Serving's REST API and KServe's V1, over HTTP."""

from __future__ import annotations

import base64
import gzip
import io
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support import EIGHT, PATIENT, Server

from models.artifact import Artifact
from models.datasets import load_builtin


def post(server: Server, path: str, document: Any, **headers: str) -> httpx.Response:
    return server.client.post(f"/v1/models/{path}", json=document, headers=headers)


def error_of(answer: httpx.Response, status: int) -> str:
    """The one text of an error, whose form is the protocol's."""
    assert status == answer.status_code, answer.text
    document = answer.json()
    assert list(document) == ["error"]
    assert answer.headers["content-type"] == "application/json"
    return document["error"]


def documented() -> list[tuple[str, str]]:
    """Path and body of the requests that the documents show."""
    found = []
    for name in ("protocols", "migrating-from-vertex"):
        text = (Path(__file__).parents[2] / "docs" / f"{name}.md").read_text()
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
            calls = re.split(r"^(?=curl )", block.replace("\\\n", " "), flags=re.MULTILINE)
            for command in filter(None, map(shlex.split, calls)):
                address = next((word for word in command if word.startswith("localhost:8000")), "")
                if "/v1/" in address and "-d" in command:
                    found.append((address.removeprefix("localhost:8000"), command[command.index("-d") + 1]))
    return found


@pytest.mark.parametrize(("path", "body"), documented())
def test_what_the_documents_show_is_answered(server: Server, path: str, body: str) -> None:
    answer = server.client.post(path, content=body)

    assert 200 == answer.status_code, answer.text


@pytest.fixture(scope="module")
def named(diabetes_artifact: Artifact) -> dict[str, float]:
    return dict(zip(diabetes_artifact.signature.feature_names, PATIENT, strict=True))


@pytest.mark.parametrize(("model", "builtin"), [("digits", "digits"), ("breast-cancer", "breast_cancer")])
def test_predictions_are_the_network_s_own_output(
    server: Server, request: pytest.FixtureRequest, model: str, builtin: str
) -> None:
    artifact = request.getfixturevalue(f"{builtin}_artifact")
    rows = load_builtin(builtin).inputs[:8]
    expected = np.asarray(artifact.load_keras()(rows, training=False))

    answer = post(server, f"{model}:predict", {"instances": rows.astype(float).tolist()}).json()

    received = np.array(answer["predictions"])
    assert expected.shape == received.shape
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_row_and_column_format_and_kserve_s_list_of_inputs_mean_the_same(
    server: Server, named: dict[str, float]
) -> None:
    rows = post(server, "diabetes:predict", {"instances": [named, PATIENT]}).json()
    columns = post(server, "diabetes:predict", {"inputs": {name: [value] * 2 for name, value in named.items()}}).json()
    listed = post(server, "diabetes:predict", {"inputs": [PATIENT, PATIENT]}).json()

    assert ["predictions"] == list(rows) == list(listed)
    assert ["outputs"] == list(columns)
    assert rows["predictions"] == columns["outputs"] == listed["predictions"]


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/champion"])
@pytest.mark.parametrize("signature", [{}, {"signature_name": ""}, {"signature_name": "serving_default"}])
def test_a_version_is_named_by_number_by_label_or_not_at_all(
    server: Server, place: str, signature: dict[str, str]
) -> None:
    native = server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]}).json()

    answer = post(server, f"diabetes{place}:predict", {"instances": [PATIENT], **signature})

    expected = native["predictions"][0]["value"]
    assert [[pytest.approx(expected, rel=1e-6)]] == answer.json()["predictions"]


def test_the_content_type_that_curl_sends_is_taken_and_bodies_may_be_compressed(server: Server) -> None:
    form = server.client.post(
        "/v1/models/diabetes:predict",
        content=b'{"instances": [%s]}' % str(PATIENT).encode(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    packed = server.client.post(
        "/v1/models/diabetes:predict",
        content=gzip.compress(b'{"instances": [%s]}' % str(PATIENT).encode()),
        headers={"content-encoding": "gzip"},
    )

    assert 200 == form.status_code == packed.status_code
    assert form.json() == packed.json()


def test_classify_names_every_label_with_its_probability(server: Server) -> None:
    native = server.client.post("/predict", json={"model": "digits", "inputs": [EIGHT]}).json()["predictions"][0]
    flat = [pixel for line in EIGHT for pixel in line]

    answer = post(server, "digits:classify", {"examples": [{"image": flat}, {"image": EIGHT}]}).json()

    assert list(native["probabilities"]) == [label for label, _ in answer["results"][0]]
    np.testing.assert_allclose(
        [score for _, score in answer["results"][0]], list(native["probabilities"].values()), atol=1e-6
    )
    assert answer["results"][0] == answer["results"][1]


def test_regress_takes_examples_over_their_context(server: Server, named: dict[str, float]) -> None:
    expected = post(server, "diabetes:predict", {"instances": [PATIENT]}).json()["predictions"][0]
    context = dict.fromkeys(named, 0) | {"age": PATIENT[0]}
    example = {name: [value] for name, value in named.items() if name != "age"}

    answer = post(server, "diabetes:regress", {"context": context, "examples": [example]}).json()

    assert expected == answer["results"]


def test_an_image_may_come_as_base64(server: Server) -> None:
    file = io.BytesIO()
    Image.fromarray((np.array(EIGHT) / 16 * 255).round().astype(np.uint8)).save(file, "PNG")
    encoded = {"b64": base64.b64encode(file.getvalue()).decode()}

    bare = post(server, "digits:predict", {"instances": [encoded]}).json()
    by_name = post(server, "digits:predict", {"inputs": {"image": [encoded]}}).json()
    numbers = post(server, "digits:predict", {"instances": [EIGHT]}).json()

    assert bare["predictions"] == by_name["outputs"]
    np.testing.assert_allclose(bare["predictions"], numbers["predictions"], atol=0.02)


def test_status_is_the_union_of_both_protocols(server: Server) -> None:
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    expected = {"name": "diabetes", "ready": True, "model_version_status": [state]}

    answers = [
        server.client.get(f"/v1/models/diabetes{place}").json() for place in ("", "/versions/1", "/labels/champion")
    ]

    assert [expected] * 3 == answers
    assert {"breast-cancer", "diabetes", "digits"} <= set(server.client.get("/v1/models").json()["models"])
    assert {"status": "alive"} == server.client.get("/").json()


def test_metadata_is_the_signature_as_a_signature_def(server: Server) -> None:
    document = server.client.get("/v1/models/digits/versions/1/metadata").json()

    definition = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert {"name": "digits", "signature_name": "", "version": "1"} == document["model_spec"]
    sizes = [dimension["size"] for dimension in definition["inputs"]["image"]["tensor_shape"]["dim"]]
    assert ["-1", "8", "8", "1"] == sizes
    assert "DT_FLOAT" == definition["outputs"]["output"]["dtype"]


@pytest.mark.parametrize(
    ("path", "document", "status", "text"),
    [
        ("nope:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(nope)"),
        ("digits/versions/7:predict", {"instances": [1]}, 404, "Servable not found for request: Specific(digits, 7)"),
        ("digits/versions/x:predict", {"instances": [1]}, 400, "Failed to convert version: x to numeric."),
        ("digits/versions/" + "9" * 400 + ":predict", {"instances": [1]}, 400, "Failed to convert version"),
        ("digits/labels/x:predict", {"instances": [1]}, 400, "Unrecognized servable version label: x"),
        ("digits/labels/1:predict", {"instances": [1]}, 400, "Unrecognized servable version label: 1"),
        ("digits:predict", [], 400, "Is not object"),
        ("digits:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        ("digits:predict", {"instances": [EIGHT], "inputs": [EIGHT]}, 400, "expecting only one of"),
        ("digits:predict", {"instances": {}}, 400, "Expecting 'instances' to be an list/array"),
        ("digits:predict", {"instances": []}, 400, "No values in 'instances' array"),
        ("digits:predict", {"inputs": {}}, 400, "No values in 'inputs' object"),
        ("digits:predict", {"inputs": {"image": []}}, 400, "No values in 'inputs' object"),
        ("digits:predict", {"inputs": {"image": 3}}, 400, "Expecting input 'image'"),
        ("diabetes:predict", {"inputs": {"age": [1, 2], "sex": [1]}}, 400, "equal 0th-dimension size"),
        ("diabetes:predict", {"inputs": {"age": [1]}}, 400, "key: sex of 'inputs' list"),
        ("digits:predict", {"instances": [EIGHT], "signature_name": 3}, 400, "must be a string value"),
        ("digits:predict", {"instances": [EIGHT], "signature_name": "x"}, 400, '"x" not found in signature def'),
        ("digits:predict", {"instances": [EIGHT], "top": 3}, 400, "Unexpected key 'top'"),
        ("digits:predict", {"instances": [EIGHT, 3]}, 400, "Failed to process element: 1 of 'instances' list"),
        ("digits:predict", {"instances": [EIGHT] * 1025}, 400, "at most 1024 a request"),
        ("digits:predict", {"inputs": {"image": [EIGHT] * 1025}}, 400, "at most 1024 a request"),
        ("digits:classify", {"examples": [{}] * 1025}, 400, "at most 1024 a request"),
        ("digits:classify", {"examples": [{}], "context": {"x": 1}}, 400, "Feature 'x' of 'context'"),
        ("digits:classify", {"instances": [EIGHT]}, 400, "Unexpected key 'instances'"),
        ("digits:classify", {}, 400, "When method is classify, key 'examples' is expected and was not found"),
        ("digits:classify", {"examples": [3]}, 400, "Example must be JSON object"),
        ("digits:classify", {"examples": [{"image": [1, 2, 3]}]}, 400, "key: image of 'examples' list"),
        ("digits:classify", {"examples": [{}], "context": 3}, 400, "Example must be JSON object"),
        ("digits:regress", {"examples": [{}]}, 400, "Was: tensorflow/serving/classify"),
        ("diabetes:classify", {"examples": [{}]}, 400, "Was: tensorflow/serving/regress"),
        ("diabetes:explain", {"instances": [PATIENT], "tolerance": 7}, 400, "tolerance: expected less than"),
        ("diabetes:explain", {"instances": [PATIENT], "parameters": 3}, 400, "Expecting 'parameters'"),
        ("diabetes:explain", {"instances": [PATIENT], "parameters": {"x": 3}}, 400, "Unexpected key 'x'"),
        ("diabetes:explain", {"instances": [[1]], "seed": 3}, 400, "Failed to process element: 0 of 'instances'"),
        ("diabetes:explain", {"instances": [PATIENT], "method": "grad-cam"}, 400, "grad-cam"),
        ("diabetes:explain", {"instances": [PATIENT], "seed": 1, "parameters": {"seed": 1}}, 400, "said twice"),
    ],
)
def test_what_cannot_be_served_is_said_in_the_protocol_s_form(
    server: Server, path: str, document: Any, status: int, text: str
) -> None:
    answer = post(server, path, document)

    assert text in error_of(answer, status)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The body is empty"),
        (b'{"instances": [', "JSON Parse error"),
        (b'{"instances": [NaN]}', "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        (b'{"instances": "\xff"}', "JSON Parse error"),
    ],
)
def test_what_is_no_json_is_said_so(server: Server, body: bytes, text: str) -> None:
    answer = server.client.post("/v1/models/digits:predict", content=body)

    assert text in error_of(answer, 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/digits:predict", 405),
        ("PUT", "/v1/models/digits:predict", 405),
        ("DELETE", "/v1/models/digits", 405),
        ("POST", "/v1/models/digits", 405),
        ("POST", "/v1/models/digits:frobnicate", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/models/nope", 404),
        ("GET", "/v1/models/nope/metadata", 404),
        ("GET", "/v1/models/digits/versions/9", 404),
        ("GET", "/v1/models/digits/versions/x", 400),
        ("GET", "/v1/models/digits/labels/x", 400),
    ],
)
def test_unknown_paths_and_wrong_verbs_have_the_protocol_s_form_too(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = server.client.request(method, path)

    assert error_of(answer, status)


def test_what_other_layers_refuse_has_the_protocol_s_form_too(server: Server) -> None:
    late = post(server, "digits:predict", {"instances": [EIGHT]}, **{"X-Request-Timeout-Ms": "never"})
    large = server.client.post("/v1/models/digits:predict", content=b" " * (server.settings.body_limit_bytes + 1))
    cut = server.client.post(
        "/v1/models/digits:predict", content=gzip.compress(b"{}")[:-4], headers={"content-encoding": "gzip"}
    )

    assert "X-Request-Timeout-Ms" in error_of(late, 400)
    assert "larger than" in error_of(large, 413)
    assert "gzip" in error_of(cut, 400)


def test_requests_are_counted_under_their_templates(server: Server) -> None:
    post(server, "diabetes/versions/1:predict", {"instances": [PATIENT]})

    metrics = server.client.get("/metrics").text

    counted = (
        'vitrine_requests_total{method="POST",model="diabetes",route="/v1/models/{model}/versions/{version}:predict"'
    )
    assert counted in metrics
    assert "diabetes:predict" not in metrics


def test_explain_gives_raw_predictions_and_our_explanations(server: Server) -> None:
    raw = post(server, "diabetes:predict", {"instances": [PATIENT]}).json()
    native = server.client.post("/explain", json={"model": "diabetes", "inputs": [PATIENT], "method": "exact"}).json()

    answer = post(server, "diabetes:explain", {"instances": [PATIENT], "method": "exact"}).json()

    assert raw["predictions"] == answer["predictions"]
    assert native["explanations"] == answer["explanations"]
    assert server.client.get(f"/explanations/{answer['id']}").json()["explanations"] == answer["explanations"]


@pytest.mark.parametrize("beside", [True, False])
def test_explanations_in_vertex_s_form_are_ours_in_other_words(server: Server, beside: bool) -> None:
    options = {"format": "vertex", "method": "exact"}
    native = server.client.post("/explain", json={"model": "diabetes", "inputs": [PATIENT], "method": "exact"}).json()
    target = native["explanations"][0]["targets"][0]

    document = {"instances": [PATIENT], **(options if beside else {"parameters": options})}
    answer = post(server, "diabetes:explain", document).json()

    (attribution,) = answer["explanations"][0]["attributions"]
    assert {each["feature"]: each["attribution"] for each in target["attributions"]} == attribution[
        "featureAttributions"
    ]
    assert (target["base_value"], target["value"]) == (
        attribution["baselineOutputValue"],
        attribution["instanceOutputValue"],
    )
    assert ([0], "progression", "progression") == tuple(
        attribution[name] for name in ("outputIndex", "outputDisplayName", "outputName")
    )
    assert attribution["approximationError"] < 1e-5
    assert "diabetes@1" == answer["deployedModelId"]


def test_the_native_route_has_vertex_s_form_with_its_own_predictions(server: Server) -> None:
    asked = {"model": "digits", "inputs": [EIGHT], "target": ["8", "3"], "method": "partition", "budget": 20_000}

    answer = server.client.post("/explain", json={**asked, "format": "vertex"}).json()

    attributions = answer["explanations"][0]["attributions"]
    assert [("8", [8]), ("3", [3])] == [(each["outputDisplayName"], each["outputIndex"]) for each in attributions]
    assert "label" in answer["predictions"][0]
    for each in attributions:
        image = np.array(each["featureAttributions"]["image"])
        assert (8, 8) == image.shape
        total = each["instanceOutputValue"] - each["baselineOutputValue"]
        assert total == pytest.approx(image.sum(), abs=1e-5)


def test_error_bars_come_along_in_vertex_s_form(server: Server) -> None:
    asked = {"model": "breast-cancer", "inputs": [load_builtin("breast_cancer").inputs[0].astype(float).tolist()]}
    asked |= {"method": "permutation", "budget": 60_000, "tolerance": 1e-6, "deadline_ms": 60_000}
    native = server.client.post("/explain", json=asked).json()["explanations"][0]["targets"][0]

    answer = server.client.post("/explain", json={**asked, "format": "vertex"}).json()

    (attribution,) = answer["explanations"][0]["attributions"]
    errors = {each["feature"]: each["standard_error"] for each in native["attributions"]}
    assert errors == attribution["featureStandardErrors"]
    spread = max(errors.values()) / abs(native["value"] - native["base_value"])
    assert 0 < attribution["approximationError"] < 4 * spread
