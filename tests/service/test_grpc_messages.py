"""Messages of the protocol as tensors and back, and errors as gRPC says them. No server."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import pytest

from models.errors import Fault
from service.errors import InvalidRequest, TooManyRowsWaiting, UnknownJob
from service.problems import STATUSES, problem_document
from service.routes.v2.tensors import AskedOutput, NamedArray
from service.rpc.messages import ERRORS, message_class
from service.rpc.outcome import CODES, MOST_MESSAGE_BYTES, refusal
from service.rpc.tensors import CONTENTS, infer_response, tensor_request

Request = message_class("ModelInferRequest")


def request(**members: Any) -> Any:
    return Request(model_name="m", **members)


def one_input(datatype: str, shape: list[int], **contents: Any) -> Any:
    return request(inputs=[{"name": "x", "datatype": datatype, "shape": shape, "contents": contents}])


def refusals(message: Any) -> list[str]:
    """Where a request has faults."""
    with pytest.raises(InvalidRequest) as caught:
        tensor_request(message)
    return [fault.pointer for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("INT8", [-128, 127]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 2**16 - 1]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP32", [0.1, float("nan")]),
        ("FP64", [0.1, 1e300]),
        ("BYTES", ["a", "Zürich"]),
    ],
)
def test_typed_contents_are_the_values_of_their_datatype(datatype: str, values: list[Any]) -> None:
    sent = [value.encode() for value in values] if datatype == "BYTES" else values
    message = Request.FromString(one_input(datatype, [2, 1], **{CONTENTS[datatype]: sent}).SerializeToString())

    (tensor,) = tensor_request(message).inputs

    expected = np.float32(values) if datatype == "FP32" else np.array(values)
    np.testing.assert_array_equal(tensor.values().reshape(-1), expected)


def test_raw_contents_are_taken_as_they_are_and_answered_in_kind() -> None:
    array = np.array([[0.1, 0.2]], np.float16)
    message = request(
        inputs=[{"name": "x", "datatype": "FP16", "shape": [1, 2]}],
        outputs=[{"name": "y"}],
        raw_input_contents=[array.tobytes()],
        parameters={"timeout": {"int64_param": 5}},
        id="seven",
    )

    read = tensor_request(message)

    np.testing.assert_array_equal(read.inputs[0].values(), array)
    assert read.outputs == (AskedOutput("y", binary=True),)
    assert (read.id, read.parameters, read.binary) == ("seven", {"timeout": 5}, True)
    assert not tensor_request(one_input("FP32", [1], fp32_contents=[1])).binary


def test_kserve_says_once_more_how_many_raw_bytes_there_are() -> None:
    given = {"name": "x", "datatype": "FP32", "shape": [1]}
    said = [given | {"parameters": {"binary_data_size": {"int64_param": size}}} for size in (4, 5)]

    assert tensor_request(request(inputs=said[:1], raw_input_contents=[bytes(4)])).inputs[0].shape == (1,)
    assert refusals(request(inputs=said[1:], raw_input_contents=[bytes(4)])) == [
        "#/inputs/0/parameters/binary_data_size"
    ]


@pytest.mark.parametrize(
    ("message", "places"),
    [
        (request(), ["#/inputs"]),
        (one_input("FP32", [1], int_contents=[1]), ["#/inputs/0/contents"]),
        (one_input("FP32", [1], int_contents=[1], fp32_contents=[1]), ["#/inputs/0/contents"]),
        (one_input("FP16", [1], fp32_contents=[1]), ["#/inputs/0/contents"]),
        (one_input("BYTES", [1], bytes_contents=[b"\xff"]), ["#/inputs/0/contents/bytes_contents/0"]),
        (one_input("FP128", [1], fp32_contents=[1]), ["#/inputs/0/datatype"]),
        (one_input("FP32", [-1], fp32_contents=[1]), ["#/inputs/0/shape"]),
        (one_input("FP32", [1] * 9, fp32_contents=[1]), ["#/inputs/0/shape"]),
        (request(inputs=[{"name": "x"}], raw_input_contents=[b"", b""]), ["#/raw_input_contents"]),
        (
            request(
                inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}],
                raw_input_contents=[bytes(4)],
            ),
            ["#/inputs/0/contents"],
        ),
        (request(inputs=[{}] * 10_001), ["#/inputs"]),
        (
            request(
                inputs=[{"name": "x", "datatype": "FP32", "shape": [0], "parameters": {"shared_memory_region": {}}}],
                outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 3}}}],
            ),
            ["#/inputs/0/parameters/shared_memory_region", "#/outputs/0/parameters/classification"],
        ),
    ],
)
def test_what_is_wrong_with_a_message_is_said_with_its_place(message: Any, places: list[str]) -> None:
    assert refusals(message) == places


def test_outputs_are_raw_or_typed_all_together() -> None:
    outputs = [
        NamedArray("p", "FP32", np.float32([[0.25, 0.75]])),
        NamedArray("n", "INT64", np.int64([7])),
        NamedArray("t", "BYTES", np.array(["é"], dtype=object)),
    ]
    head = {"model_name": "m", "model_version": "3", "id": "x", "parameters": {"a": True, "b": 2, "c": 0.5, "d": "e"}}

    typed = infer_response(head, [(output, False) for output in outputs])
    raw = infer_response(head, [(output, output.name == "n") for output in outputs])

    assert [list(tensor.shape) for tensor in typed.outputs] == [[1, 2], [1], [1]]
    assert list(typed.outputs[0].contents.fp32_contents) == [0.25, 0.75]
    assert list(typed.outputs[1].contents.int64_contents) == [7]
    assert list(typed.outputs[2].contents.bytes_contents) == ["é".encode()]
    assert not typed.raw_output_contents
    assert [bytes(contents) for contents in raw.raw_output_contents] == [
        np.float32([0.25, 0.75]).tobytes(),
        np.int64([7]).tobytes(),
        b"\x02\x00\x00\x00" + "é".encode(),
    ]
    assert not raw.outputs[0].HasField("contents")
    parameters = raw.parameters
    assert (parameters["a"].bool_param, parameters["b"].int64_param) == (True, 2)
    assert (parameters["c"].double_param, parameters["d"].string_param) == (0.5, "e")


def test_every_status_has_a_code() -> None:
    statuses = {status for status, _, _ in STATUSES.values()} | {499}

    assert set() == statuses - CODES.keys()


def details_of(metadata: Any, name: str) -> Any:
    """A detail in the trailing metadata of an error."""
    status = message_class("Status", ERRORS).FromString(dict(metadata)["grpc-status-details-bin"])
    (detail,) = [d for d in status.details if d.type_url == f"type.googleapis.com/google.rpc.{name}"]
    return status, message_class(name, ERRORS).FromString(detail.value)


def test_an_error_names_its_faults_and_when_to_come_again() -> None:
    faults = [Fault("#/inputs/0/shape", "[-1, 10]", "[3]"), Fault("#/id", "a string", "null", "by the protocol")]

    code, message, metadata = refusal(problem_document(InvalidRequest(faults)), None)
    status, wrong = details_of(metadata, "BadRequest")

    assert (code, status.code, status.message) == (grpc.StatusCode.INVALID_ARGUMENT, 3, message)
    assert "#/inputs/0/shape: expected [-1, 10], received [3]" in message
    assert [(violation.field, violation.description) for violation in wrong.field_violations] == [
        ("#/inputs/0/shape", "expected [-1, 10], received [3]"),
        ("#/id", "expected a string, received null (by the protocol)"),
    ]
    assert "grpc-retry-pushback-ms" not in dict(metadata)

    code, _, metadata = refusal(problem_document(TooManyRowsWaiting(5)), 1.5)
    _, again = details_of(metadata, "RetryInfo")

    assert code is grpc.StatusCode.UNAVAILABLE
    assert (again.retry_delay.seconds, again.retry_delay.nanos) == (1, 500_000_000)
    assert dict(metadata)["grpc-retry-pushback-ms"] == "1500"
    assert dict(refusal(problem_document(TooManyRowsWaiting(5)), 60)[2])["grpc-retry-pushback-ms"] == "-1"


def test_an_error_with_much_to_say_fits_into_the_trailers_that_clients_take() -> None:
    long = [Fault(f"#/inputs/{i}/name", "ü" * 400, "x" * 400) for i in range(100)]

    _, message, metadata = refusal(problem_document(InvalidRequest(long)), 1)
    _, wrong = details_of(metadata, "BadRequest")

    sent = len(quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))  # as HTTP/2 trailers have it
    assert MOST_MESSAGE_BYTES - 20 < sent <= MOST_MESSAGE_BYTES + 3
    assert message.endswith("...")
    assert 1 <= len(wrong.field_violations) < 100
    assert sent + sum(len(value) * 4 / 3 for _, value in metadata) < 7 * 1024
    assert refusal(problem_document(UnknownJob("x", [])), None)[1] == str(UnknownJob("x", []))
