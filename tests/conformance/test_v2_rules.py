"""The rules of the Open Inference Protocol V2 over REST, one by one (specification/protocol/inference_rest.md)."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import httpx
import pytest
from protocol import DATATYPES, Target, assert_refused, assert_same, output_arrays


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_a_server_that_lives_and_is_ready_says_so_with_200(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_a_server_says_its_name_version_and_extensions(client: httpx.Client) -> None:
    document = client.get("/v2").json()

    assert isinstance(document["name"], str)
    assert isinstance(document["version"], str)
    assert all(isinstance(name, str) for name in document["extensions"])


def test_a_model_says_its_name_versions_platform_and_tensors(target: Target) -> None:
    metadata = target.metadata

    assert metadata["name"] == target.model
    assert isinstance(metadata["platform"], str)
    assert all(isinstance(version, str) for version in metadata.get("versions", ()))
    for tensor in (*metadata["inputs"], *metadata["outputs"]):
        assert isinstance(tensor["name"], str)
        assert tensor["datatype"] in DATATYPES
        assert all(type(size) is int and size >= -1 for size in tensor["shape"])


def test_a_model_that_is_ready_says_so_with_200(target: Target) -> None:
    assert target.client.get(f"{target.path}/ready").status_code == 200


def test_each_version_is_found_under_its_own_path(target: Target) -> None:
    for version in target.metadata.get("versions", ())[:3]:
        answer = target.client.post(f"{target.path}/versions/{version}/infer", json={"inputs": target.inputs})

        assert answer.json()["model_version"] == version
        assert target.client.get(f"{target.path}/versions/{version}").json()["name"] == target.model
        assert target.client.get(f"{target.path}/versions/{version}/ready").status_code == 200


def test_an_answer_names_the_model_and_has_the_outputs_of_the_metadata(target: Target) -> None:
    document = target.infer().json()

    assert document["model_name"] == target.model
    assert {output["name"] for output in document["outputs"]} == {out["name"] for out in target.metadata["outputs"]}
    declared = {output["name"]: output for output in target.metadata["outputs"]}
    for output in document["outputs"]:
        assert output["datatype"] == declared[output["name"]]["datatype"]
        free = zip(declared[output["name"]]["shape"], output["shape"], strict=True)
        assert all(said in (-1, size) for said, size in free)


@pytest.mark.parametrize("given", ["1", "a longer id: ü/{}", "0" * 300])
def test_the_id_of_a_request_is_the_id_of_its_answer(target: Target, given: str) -> None:
    assert target.infer(id=given).json()["id"] == given


def test_data_nested_and_flat_are_the_same(target: Target) -> None:
    def nested(values: list[Any], shape: list[int]) -> list[Any]:
        for size in reversed(shape[1:]):
            values = [values[i : i + size] for i in range(0, len(values), size)]
        return values

    inputs = [tensor | {"data": nested(tensor["data"], tensor["shape"])} for tensor in target.inputs]

    assert_same(output_arrays(target.infer()), output_arrays(target.infer(inputs=inputs)))


def test_several_rows_are_answered_in_order(target: Target) -> None:
    if not all(tensor["shape"][:1] == [-1] for tensor in target.metadata["inputs"]):
        pytest.skip("the model has no rows")
    one, several = output_arrays(target.infer()), output_arrays(target.infer(inputs=target.repeated(3)))

    for i in range(3):
        assert_same(one, {name: array[i : i + 1] for name, array in several.items()})


def test_only_the_outputs_that_are_asked_for_are_answered(target: Target) -> None:
    for output in target.metadata["outputs"]:
        answer = target.infer(outputs=[{"name": output["name"]}])

        assert list(output_arrays(answer)) == [output["name"]]


def test_order_of_members_and_of_inputs_means_nothing(target: Target) -> None:
    inputs = [dict(reversed(tensor.items())) for tensor in reversed(target.inputs)]

    assert_same(output_arrays(target.infer()), output_arrays(target.infer(inputs=inputs)))


def test_a_request_without_a_content_type_is_taken(target: Target) -> None:
    body = json.dumps({"inputs": target.inputs}).encode()
    answer = target.client.send(target.client.build_request("POST", f"{target.path}/infer", content=body))

    assert_same(output_arrays(target.infer()), output_arrays(answer))


@pytest.mark.parametrize("tail", ["", "/infer", "/versions/1", "/versions/1/infer"])
def test_an_unknown_model_is_refused(client: httpx.Client, tail: str) -> None:
    path = f"/v2/models/there-is-no-such-model{tail}"

    assert_refused(client.post(path, json={"inputs": []}) if tail.endswith("infer") else client.get(path))


def test_an_unknown_version_is_refused(target: Target) -> None:
    assert_refused(target.client.get(f"{target.path}/versions/987654"))
    assert_refused(target.client.post(f"{target.path}/versions/987654/infer", json={"inputs": target.inputs}))


def test_an_unknown_model_is_not_ready(client: httpx.Client) -> None:
    assert client.get("/v2/models/there-is-no-such-model/ready").status_code != 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"null", b'"inputs"', b"\xff\xfe", b'{"inputs": [NaN]}', b"[" * 3000],
    ids=["nothing", "half", "list", "number", "null", "string", "not UTF-8", "NaN", "deep"],
)
def test_what_is_no_request_is_refused(target: Target, body: bytes) -> None:
    assert_refused(target.client.post(f"{target.path}/infer", content=body))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "there-is-no-such-input"}, {"name": None}, {"datatype": "FLOAT"}, {"datatype": None},
        {"shape": None}, {"shape": "x"}, {"shape": [1.5]}, {"shape": [-1, 3]}, {"shape": []},
        {"shape": [2**31, 2**31]}, {"shape": [2**63 - 1]}, {"data": None}, {"data": []}, {"data": {}},
        {"data": [[]]}, {"data": "1"}, {"data": [None, {}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_tensor_that_is_not_the_model_s_is_refused(target: Target, changes: dict[str, Any]) -> None:
    first = {name: value for name, value in (target.inputs[0] | changes).items() if value is not None}

    assert_refused(target.infer(inputs=[first, *target.inputs[1:]]))


def test_data_must_be_as_many_as_the_shape_says(target: Target) -> None:
    first = target.inputs[0]

    assert_refused(target.infer(inputs=[first | {"data": first["data"][:-1]}, *target.inputs[1:]]))
    assert_refused(target.infer(inputs=[first | {"data": first["data"] * 2}, *target.inputs[1:]]))


def test_data_must_be_of_the_datatype(target: Target) -> None:
    first = target.inputs[0]
    other = 1 if first["datatype"] == "BYTES" else "x"
    wrong = [first | {"data": [other] * prod(first["shape"])}, *target.inputs[1:]]

    assert_refused(target.infer(inputs=wrong))


@pytest.mark.parametrize("inputs", [[], None, {}, "x", [1]], ids=str)
def test_there_must_be_inputs(target: Target, inputs: Any) -> None:
    assert_refused(target.infer(inputs=inputs))


def test_an_input_more_is_refused(target: Target) -> None:
    assert_refused(target.infer(inputs=[*target.inputs, target.inputs[0] | {"name": "one-more"}]))


def test_an_unknown_output_is_refused(target: Target) -> None:
    assert_refused(target.infer(outputs=[{"name": "there-is-no-such-output"}]))


def test_inference_is_posted(target: Target) -> None:
    assert target.client.get(f"{target.path}/infer").status_code in (404, 405)


def test_a_server_serves_on_after_what_it_has_refused(target: Target) -> None:
    expected = output_arrays(target.infer())
    for body in (b"", b"[" * 3000, b"\0" * 100):
        target.client.post(f"{target.path}/infer", content=body)

    assert_same(expected, output_arrays(target.infer()))
