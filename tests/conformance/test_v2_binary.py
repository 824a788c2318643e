"""The binary tensor extension of V2 (Triton's docs/protocol/extension_binary_data.md)."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from protocol import HEADER, Target, assert_refused, assert_same, output_arrays


@pytest.fixture(autouse=True)
def named(target: Target) -> None:
    target.needs("binary_tensor_data")


def test_binary_inputs_are_answered_as_those_of_json(target: Target) -> None:
    inputs, raw = target.binary_inputs()

    assert_same(output_arrays(target.infer()), output_arrays(target.infer_binary(inputs, raw)))


def test_all_outputs_are_binary_where_the_request_says_so(target: Target) -> None:
    answer = target.infer(parameters={"binary_data_output": True})

    document = json.loads(answer.content[: int(answer.headers[HEADER])])
    assert all("binary_data_size" in output["parameters"] for output in document["outputs"])
    assert_same(output_arrays(target.infer()), output_arrays(answer))


@pytest.mark.parametrize(("of_all", "of_one"), [(True, False), (False, True)])
def test_what_is_said_of_an_output_goes_before_what_is_said_of_all(target: Target, of_all: bool, of_one: bool) -> None:
    name = target.metadata["outputs"][0]["name"]

    answer = target.infer(
        parameters={"binary_data_output": of_all}, outputs=[{"name": name, "parameters": {"binary_data": of_one}}]
    )

    assert (HEADER in answer.headers) == of_one
    expected = output_arrays(target.infer(outputs=[{"name": name}]))
    assert_same(expected, output_arrays(answer))


def test_a_header_of_json_alone_is_taken(target: Target) -> None:
    assert_same(output_arrays(target.infer()), output_arrays(target.infer_binary(target.inputs, b"")))


def test_a_request_of_nothing_but_bytes_is_the_one_input(target: Target) -> None:
    if len(target.inputs) != 1:
        pytest.skip("the model has several inputs")
    _, raw = target.binary_inputs()

    answer = target.client.post(f"{target.path}/infer", content=raw, headers={HEADER: "0"})

    assert HEADER in answer.headers
    assert_same(output_arrays(target.infer()), output_arrays(answer))


@pytest.mark.parametrize("header", ["-1", "x", "1000000000", "9" * 100, "1.5"])
def test_a_header_that_is_no_length_within_the_body_is_refused(target: Target, header: str) -> None:
    inputs, raw = target.binary_inputs()

    assert_refused(target.infer_binary(inputs, raw, header=header))


@pytest.mark.parametrize("size", [-1, 0, 3, 2**31, 2**62, "4", 1.5, True, [], {}], ids=str)
def test_a_size_that_is_not_that_of_the_tensor_is_refused(target: Target, size: Any) -> None:
    inputs, raw = target.binary_inputs()
    inputs[0]["parameters"] = {"binary_data_size": size}

    assert_refused(target.infer_binary(inputs, raw))


def test_bytes_too_few_or_too_many_are_refused(target: Target) -> None:
    inputs, raw = target.binary_inputs()

    assert_refused(target.infer_binary(inputs, raw[:-1]))
    assert_refused(target.infer_binary(inputs, b""))
    assert_refused(target.infer_binary(inputs, raw + b"\0\0\0\0"))


def test_a_shape_that_asks_for_more_memory_than_there_is_is_refused(target: Target) -> None:
    inputs, raw = target.binary_inputs()
    for shape in ([2**31, 2**31], [2**62], [2**20, *inputs[0]["shape"][1:]]):
        assert_refused(target.infer_binary([inputs[0] | {"shape": shape}, *inputs[1:]], raw))


def test_data_in_json_and_behind_it_at_once_are_refused(target: Target) -> None:
    inputs, raw = target.binary_inputs()
    inputs[0]["data"] = target.inputs[0]["data"]

    assert_refused(target.infer_binary(inputs, raw))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_taken_or_refused(target: Target, encoding: str) -> None:
    """Triton takes both; the protocol asks for neither."""
    body = json.dumps({"inputs": target.inputs}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    path, headers = f"{target.path}/infer", {"Content-Encoding": encoding, "Content-Type": "application/json"}

    answer = target.client.post(path, content=packed, headers=headers)

    if answer.status_code != 200:
        assert_refused(answer)
        return
    assert_same(output_arrays(target.infer()), output_arrays(answer))
    assert_refused(target.client.post(path, content=packed[:-9], headers=headers))
    assert_refused(target.client.post(path, content=body, headers=headers))
