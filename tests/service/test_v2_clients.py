"""tritonclient and kserve's client, as they are, at a real server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from clients import what_a_client_finds
from support import PATIENT, Server

from models.artifact import Artifact


@pytest.fixture(scope="module")
def triton(server: Server, diabetes_artifact: Artifact) -> dict[str, Any]:
    """What tritonclient found."""
    kinds = [("float32", "FP32"), ("int64", "INT64"), ("float64", "FP64")]
    columns = [
        {"name": name, "value": value, "dtype": dtype, "datatype": datatype}
        for i, (name, value) in enumerate(zip(diabetes_artifact.signature.feature_names, PATIENT, strict=True))
        for dtype, datatype in [kinds[i % 3] if float(value).is_integer() else kinds[0]]
    ]
    address = str(server.client.base_url).removeprefix("http://").rstrip("/")
    return what_a_client_finds("tritonclient_v2.py", address, json.dumps(PATIENT), json.dumps(columns))


@pytest.fixture(scope="module")
def kserve(server: Server) -> dict[str, Any]:
    """What kserve's client found."""
    return what_a_client_finds("kserve_v2.py", str(server.client.base_url).rstrip("/"), json.dumps(PATIENT))


@pytest.fixture(scope="module")
def value(server: Server) -> float:
    """What `/predict` answers for the patient."""
    answer = server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]}).json()
    return answer["predictions"][0]["value"]


def test_tritonclient_finds_the_server_and_its_models(triton: dict[str, Any]) -> None:
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, [True, True])
    assert triton["unknown_ready"] is False
    assert triton["server"]["name"] == "vitrine"
    assert triton["metadata"]["inputs"][0]["shape"] == [-1, 8, 8, 1]
    assert triton["metadata"]["outputs"][0]["parameters"]["labels"] == [str(digit) for digit in range(10)]
    assert triton["config"]["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [8, 8, 1]}]
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in triton["index"]


def test_tritonclient_asks_for_binary_outputs_where_it_names_none(triton: dict[str, Any], value: float) -> None:
    assert triton["default"]["value"] == [[np.float32(value)]]
    assert triton["default"]["response"]["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert triton["in_json"] == {"value": [[np.float32(value)]], "id": "forty-two"}


def test_however_tritonclient_sends_a_row_its_answer_is_the_same_bit_for_bit(
    triton: dict[str, Any], value: float
) -> None:
    assert triton["same"] == {way: [[np.float32(value)]] for way in triton["same"]}


def test_tritonclient_gets_raw_outputs_of_every_datatype_that_images_come_in(
    triton: dict[str, Any], server: Server
) -> None:
    images = (np.arange(3 * 64).reshape(3, 8, 8) % 17).tolist()
    predictions = server.client.post("/predict", json={"model": "digits", "inputs": images}).json()["predictions"]
    expected = [list(prediction["probabilities"].values()) for prediction in predictions]

    np.testing.assert_array_equal(np.float32(triton["digits"]["probability"]), np.float32(expected))
    logits = np.array(triton["digits"]["logit"])
    assert logits.argmax(axis=1).tolist() == np.argmax(expected, axis=1).tolist()
    for received in triton["narrow"].values():
        np.testing.assert_array_equal(np.float32(received), np.float32(expected))


def test_concurrent_requests_of_tritonclient_get_their_own_answers(triton: dict[str, Any]) -> None:
    assert len({str(together) for together, _ in triton["concurrent"]}) == 16
    for together, alone in triton["concurrent"]:
        np.testing.assert_allclose(together, alone, rtol=1e-6)


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("unknown model", "404", "There is no model 'nobody'"),
        ("unknown version", "404", "no version or alias '99'"),
        ("unknown metadata", "404", "There is no model 'nobody'"),
        ("wrong input", "400", "expected 'image', received the string 'input'"),
        ("wrong output", "400", "expected one of value, output"),
        ("priority", "400", "#/parameters/priority"),
        ("sequence", "400", "#/parameters/sequence_id"),
        ("classification", "400", "#/outputs/0/parameters/classification"),
        ("timeout", "504", "0.001 ms"),
        ("config", "400", "#/parameters/config"),
        ("unload", "400", "failed to unload 'diabetes': version 1 is served as champion"),
    ],
)
def test_tritonclient_raises_what_the_server_says(triton: dict[str, Any], what: str, status: str, words: str) -> None:
    assert triton["refused"][what]["status"] == status
    assert words in triton["refused"][what]["message"]


def test_tritonclient_reads_statistics(triton: dict[str, Any]) -> None:
    counted = triton["statistics"]

    assert (counted["name"], counted["version"]) == ("diabetes", "1")
    assert counted["inference_count"] >= 40
    # Requests, and their rows.
    assert 40 <= counted["inference_stats"]["success"]["count"] <= counted["inference_count"]
    assert counted["inference_stats"]["fail"]["count"] >= 3
    stages = [counted["inference_stats"][name]["ns"] for name in ("compute_input", "compute_infer", "compute_output")]
    assert sum(stages) == counted["inference_stats"]["success"]["ns"]


def test_tritonclient_packs_requests_for_explanations_and_unpacks_them(triton: dict[str, Any], server: Server) -> None:
    native = server.client.post("/explain", json={"model": "diabetes", "inputs": [PATIENT]}).json()
    (target,) = native["explanations"][0]["targets"]

    explained = triton["explained"]

    assert explained["targets"] == ["progression"]
    np.testing.assert_array_equal(
        np.array(explained["attributions"])[0, 0], [share["attribution"] for share in target["attributions"]]
    )
    assert explained["base_values"] == [[target["base_value"]]]
    assert explained["values"] == [[target["value"]]]
    receipt = explained["parameters"]
    assert receipt["method"] == "exact"
    assert receipt["model_sha256"] == native["receipt"]["model_sha256"]
    assert server.client.get(f"/explanations/{receipt['explanation']}").json()["version"] == 1


def test_kserve_finds_the_server_and_gets_answers(kserve: dict[str, Any], value: float) -> None:
    assert (kserve["live"], kserve["ready"], kserve["model_ready"], kserve["unknown_ready"]) == (
        True,
        True,
        True,
        False,
    )
    assert kserve["in_json"]["id"] == "seven"
    for name in ("in_json", "binary", "binary_output", "all_binary"):
        assert kserve[name]["model"] == "diabetes"
        assert kserve[name]["value"] == [[np.float32(value)]]
    assert "nobody" in kserve["refused"]


def test_v1_and_v2_answer_the_same_tensor_of_one_sigmoid_unit(server: Server) -> None:
    row = server.client.get("/v2/models/breast-cancer").json()["inputs"][0]["shape"][1] * [1.5]
    asked = {"inputs": [{"name": "input", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}
    path = "/v2/models/breast-cancer"

    (described,) = server.client.get(path).json()["outputs"]
    over_v1 = server.client.post("/v1/models/breast-cancer:predict", json={"instances": [row]}).json()["predictions"]
    (by_default,) = server.client.post(f"{path}/infer", json=asked).json()["outputs"]
    named = [{"name": name} for name in ("output", "probability", "logit")]
    output, both, logit = server.client.post(f"{path}/infer", json=asked | {"outputs": named}).json()["outputs"]

    assert (described["name"], described["shape"]) == ("output", [-1, 1])
    assert described["parameters"] == {"labels": ["benign"], "on_request": ["probability", "logit"]}
    assert by_default == output == {"name": "output", "datatype": "FP32", "shape": [1, 1], "data": over_v1[0]}
    assert (both["shape"], both["data"][1:]) == ([1, 2], output["data"])
    assert logit["shape"] == [1, 2]
