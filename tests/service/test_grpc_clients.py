"""tritonclient and kserve's client over gRPC, as they are, at a real server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from clients import what_a_client_finds
from support import PATIENT, Server

from models.artifact import Artifact
from service.rpc import messages


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return f"127.0.0.1:{server.settings.grpc_port}"


@pytest.fixture(scope="module")
def triton(server: Server, address: str, diabetes_artifact: Artifact) -> dict[str, Any]:
    """What tritonclient found."""
    kinds = [("float32", "FP32"), ("int64", "INT64"), ("float64", "FP64")]
    columns = [
        {"name": name, "value": value, "dtype": dtype, "datatype": datatype}
        for i, (name, value) in enumerate(zip(diabetes_artifact.signature.feature_names, PATIENT, strict=True))
        for dtype, datatype in [kinds[i % 3] if float(value).is_integer() else kinds[0]]
    ]
    http = str(server.client.base_url).removeprefix("http://").rstrip("/")
    return what_a_client_finds("tritonclient_grpc.py", address, http, json.dumps(PATIENT), json.dumps(columns))


@pytest.fixture(scope="module")
def kserve(address: str) -> dict[str, Any]:
    """What kserve's client found."""
    return what_a_client_finds("kserve_grpc.py", address, json.dumps(PATIENT))


@pytest.fixture(scope="module")
def value(server: Server) -> np.float32:
    """What `/predict` answers for the patient."""
    answer = server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]}).json()
    return np.float32(answer["predictions"][0]["value"])


def test_our_messages_have_the_fields_of_the_protocol_s(triton: dict[str, Any]) -> None:
    theirs, differing = triton["fields"], {}
    own = {
        "inference.ModelMetadataResponse": {"properties"},  # of the protocol's own file, which Triton does not have
        "inference.ModelMetadataResponse.PropertiesEntry": {"key", "value"},
        "inference.ModelMetadataResponse.TensorMetadata": {"parameters"},
        "inference.ModelMetadataResponse.TensorMetadata.ParametersEntry": {"key", "value"},
        "inference.RepositoryModelLoadResponse": {"model_name", "isLoaded"},
        "inference.RepositoryModelUnloadResponse": {"model_name", "isUnloaded"},
    }

    for name, fields in fields_of_ours().items():
        for field, described in fields.items():
            public_field = theirs.get(name, {}).get(field)
            if field not in own.get(name, ()) and public_field != described:
                differing[f"{name}.{field}"] = (described, public_field)

    assert differing == {}
    enum = messages.message_class("ModelInput").DESCRIPTOR.fields_by_name["data_type"].enum_type
    assert {member.name: member.number for member in enum.values} == triton["data_types"]
    assert own.keys() <= fields_of_ours().keys()


def fields_of_ours() -> dict[str, dict[str, list[Any]]]:
    def fields(descriptor: Any) -> dict[str, dict[str, list[Any]]]:
        kinds = {
            f.name: [f.number, f.type, f.is_repeated, (f.message_type or f.enum_type or f).full_name]
            for f in descriptor.fields
        }
        found = {descriptor.full_name: kinds}
        for nested in descriptor.nested_types:
            found |= fields(nested)
        return found

    found: dict[str, dict[str, list[Any]]] = {}
    for name in ("ModelInferRequest", "ModelConfigResponse", "ModelStreamInferResponse", "ModelStatisticsResponse"):
        for descriptor in messages.message_class(name).DESCRIPTOR.file.message_types_by_name.values():
            found |= fields(descriptor)
    return found


def test_tritonclient_finds_the_server_and_its_models(triton: dict[str, Any]) -> None:
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, [True, True])
    assert triton["unknown_ready"] == [False, False]
    assert triton["health"] == ["0801", "0801"]
    assert triton["server"]["name"] == "vitrine"
    assert triton["server"]["extensions"] == ["model_repository", "model_configuration", "statistics", "explain"]
    assert triton["metadata"]["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "8", "8", "1"]}]
    assert triton["config"]["config"]["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": ["8", "8", "1"]}]
    assert triton["config"]["config"]["max_batch_size"] == 1024
    assert {"name": "digits", "version": "1", "state": "READY"} in triton["index"]["models"]


def test_however_tritonclient_sends_a_row_its_answer_is_the_same_bit_for_bit(
    triton: dict[str, Any], value: np.float32
) -> None:
    assert triton["default"]["value"] == [[value]]
    assert triton["same"] == {way: [[value]] for way in triton["same"]}
    assert triton["id"] == "forty-two"


def test_typed_contents_are_answered_by_typed_contents(triton: dict[str, Any], value: np.float32) -> None:
    for answer in (triton["typed"]["answer"], triton["typed_columns"]):
        (output,) = answer["outputs"]
        assert "raw_output_contents" not in answer
        assert np.float32(output["contents"]["fp32_contents"]) == [value]
    assert triton["typed"]["request_id"] == "given-by-the-client"
    assert "contents" not in triton["default"]["response"]["outputs"][0]


def test_images_of_every_datatype_get_the_bits_that_rest_answers(triton: dict[str, Any]) -> None:
    probability, _ = triton["digits"]["probability"]

    assert all(over_grpc == over_http for over_grpc, over_http in triton["digits"].values())
    assert triton["narrow"] == dict.fromkeys(triton["narrow"], probability)
    expected = np.frombuffer(bytes.fromhex(probability), np.float32)
    for received in triton["narrow_typed"].values():
        np.testing.assert_array_equal(np.float32(received), expected)


def test_concurrent_calls_get_their_own_answers(triton: dict[str, Any]) -> None:
    assert len({str(together) for together, _ in triton["concurrent"]}) == 32
    for together, alone in triton["concurrent"]:
        np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_tritonclient_streams(triton: dict[str, Any]) -> None:
    streamed, alone = triton["streamed"], [alone for _, alone in triton["concurrent"]]

    assert "There is no model 'nobody'" in streamed.pop(3)
    assert [identifier for identifier, _, _ in streamed] == [str(i) for i in range(80) if i != 3]
    assert [identifier for identifier, _, is_final in streamed if is_final] == ["5"]
    np.testing.assert_allclose([v for _, v, _ in streamed[:31]], alone[:3] + alone[4:], rtol=1e-6)


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("unknown model", "NOT_FOUND", "There is no model 'nobody'"),
        ("unknown version", "NOT_FOUND", "no version or alias '99'"),
        ("unknown metadata", "NOT_FOUND", "There is no model 'nobody'"),
        ("wrong input", "INVALID_ARGUMENT", "expected 'image', received the string 'input'"),
        ("wrong output", "INVALID_ARGUMENT", "expected one of value, output"),
        ("priority", "INVALID_ARGUMENT", "#/parameters/priority"),
        ("sequence", "INVALID_ARGUMENT", "#/parameters/sequence_id"),
        ("classification", "INVALID_ARGUMENT", "#/outputs/0/parameters/classification"),
        ("timeout", "DEADLINE_EXCEEDED", "0.001 ms"),
        ("config", "INVALID_ARGUMENT", "#/parameters/config"),
        ("unload", "FAILED_PRECONDITION", "failed to unload 'diabetes': version 1 is served as champion"),
        ("repository", "INVALID_ARGUMENT", "#/repository_name: expected none: there is one repository"),
        ("shared memory", "UNIMPLEMENTED", "no method '/inference.GRPCInferenceService/SystemSharedMemoryStatus'"),
        ("trace", "UNIMPLEMENTED", "Offered: "),
        ("no input", "INVALID_ARGUMENT", "#/inputs: expected a list of at least one tensor"),
        ("wrong contents", "INVALID_ARGUMENT", "expected fp32_contents for FP32, received int_contents"),
        ("short contents", "INVALID_ARGUMENT", "expected 10 values for shape [1, 10], received 9 values"),
        ("half contents", "INVALID_ARGUMENT", "FP16 has no typed contents; send it in raw_input_contents"),
        ("range", "INVALID_ARGUMENT", "expected numbers from -128 to 127"),
        ("text", "INVALID_ARGUMENT", "expected text in UTF-8"),
        ("mixed", "INVALID_ARGUMENT", "expected none beside raw_input_contents, received fp32_contents"),
        ("count", "INVALID_ARGUMENT", "#/raw_input_contents: expected 0, one for each input"),
        ("large", "RESOURCE_EXHAUSTED", "larger than max"),
        ("bomb", "RESOURCE_EXHAUSTED", "larger than max"),
        ("rows", "INVALID_ARGUMENT", "from 1 to 1024 rows"),
        ("garbage", "INVALID_ARGUMENT", "The message is no inference.ModelInferRequest"),
        ("method", "UNIMPLEMENTED", "no method '/inference.GRPCInferenceService/Fly'"),
    ],
)
def test_tritonclient_raises_what_the_server_says(triton: dict[str, Any], what: str, code: str, words: str) -> None:
    assert triton["refused"][what]["code"] == f"StatusCode.{code}"
    assert words in triton["refused"][what]["message"]


def test_the_client_s_own_deadline_and_unknown_services_have_their_codes(triton: dict[str, Any]) -> None:
    assert triton["deadline"]["code"] == "StatusCode.DEADLINE_EXCEEDED"
    assert triton["unknown_health"]["code"] == "StatusCode.NOT_FOUND"


def test_statistics_and_metrics_count_calls(triton: dict[str, Any], server: Server) -> None:
    counted = triton["statistics"]
    metrics = server.client.get("/metrics").text

    assert (counted["name"], counted["version"]) == ("diabetes", "1")
    assert int(counted["inference_count"]) >= 100
    # Requests, and their rows.
    assert 40 <= int(counted["inference_stats"]["success"]["count"]) <= int(counted["inference_count"])
    assert triton["all_statistics"] >= 4  # versions that other tests have asked for are counted, too
    label = 'model="diabetes",route="/inference.GRPCInferenceService/ModelInfer",status="200",version="1"'
    assert f'vitrine_requests_total{{method="POST",{label}}}' in metrics
    assert 'route="unknown",status="404"' in metrics
    assert "Fly" not in metrics


def test_explanations_are_tensors_over_grpc_too(triton: dict[str, Any], server: Server) -> None:
    native = server.client.post("/explain", json={"model": "diabetes", "inputs": [PATIENT], "method": "exact"}).json()
    (target,) = native["explanations"][0]["targets"]

    explained = triton["explained"]

    assert explained["targets"] == ["progression"]
    np.testing.assert_array_equal(
        np.array(explained["attributions"])[0, 0], [share["attribution"] for share in target["attributions"]]
    )
    assert explained["base_values"] == [[target["base_value"]]]
    receipt = explained["parameters"]
    assert receipt["model_sha256"]["string_param"] == native["receipt"]["model_sha256"]
    assert receipt["tolerance"]["double_param"] == native["receipt"]["tolerance"]
    recorded = server.client.get(f"/explanations/{receipt['explanation']['string_param']}").json()
    assert (recorded["model"], recorded["version"]) == ("diabetes", 1)
    assert "#/parameters/options" in triton["explain_refused"]["message"]


def test_kserve_finds_the_server_and_gets_answers(kserve: dict[str, Any], value: np.float32) -> None:
    found = [kserve[name] for name in ("live", "ready", "model_ready", "unknown_ready")]
    ways = {"typed": False, "raw": True, "raw_output": True, "all_raw": True, "typed_output": False}

    assert found == [True, True, True, False]
    assert {name: kserve[name]["is_raw"] for name in ways} == ways
    assert [kserve[name]["value"] for name in ways] == [[[value]]] * len(ways)
    assert kserve["typed"]["id"] == "seven"
    assert kserve["refused"] == ["StatusCode.NOT_FOUND", kserve["refused"][1]]
    assert "There is no model 'nobody'" in kserve["refused"][1]
    assert kserve["loaded"] == ["diabetes", True]
