"""The rules of the Open Inference Protocol V2 over gRPC, one by one (specification/protocol/inference_grpc.md).

Errors are any status but OK: which of gRPC's codes it is, the protocol does not say (`test_v2_rpc_extensions.py` does).
"""

from __future__ import annotations

from functools import partial

import grpc
import pytest
from protocol import DATATYPES, assert_same
from rpc_protocol import MESSAGES, NOT_PACKED, WRONG, RpcTarget, arrays_of, ask, outcome, refusal

NOBODY = "there-is-no-such-model"
A_NEWER_FIELD = b"\xc2\x3e\x05newer"
"""Field 1000, of bytes."""


def test_a_server_that_lives_and_is_ready_says_so(channel: grpc.Channel) -> None:
    assert ask(channel, "ServerLive", MESSAGES["ServerLiveRequest"]()).live
    assert ask(channel, "ServerReady", MESSAGES["ServerReadyRequest"]()).ready


def test_a_server_says_its_name_and_version(channel: grpc.Channel) -> None:
    answer = ask(channel, "ServerMetadata", MESSAGES["ServerMetadataRequest"]())

    assert answer.name
    assert answer.version


def test_a_model_says_its_name_platform_and_tensors(rpc_target: RpcTarget) -> None:
    metadata = rpc_target.metadata

    assert metadata.name == rpc_target.model
    assert metadata.platform
    assert all(entry.key and entry.value.isprintable() for entry in metadata.properties)
    assert len(metadata.inputs) > 0
    assert len(metadata.outputs) > 0
    for tensor in (*metadata.inputs, *metadata.outputs):
        assert tensor.name
        assert tensor.datatype in DATATYPES
        assert all(size >= -1 for size in tensor.shape)


def test_a_model_that_is_ready_says_so(rpc_target: RpcTarget) -> None:
    assert rpc_target.ask("ModelReady", name=rpc_target.model).ready


def test_each_version_is_found_by_its_name(rpc_target: RpcTarget) -> None:
    for version in rpc_target.metadata.versions[:3]:
        assert rpc_target.ask("ModelReady", name=rpc_target.model, version=version).ready
        assert rpc_target.ask("ModelMetadata", name=rpc_target.model, version=version).name == rpc_target.model
        assert rpc_target.infer(model_version=version).model_version == version


def test_an_answer_names_the_model_and_has_the_outputs_of_the_metadata(rpc_target: RpcTarget) -> None:
    answer = rpc_target.infer()

    assert answer.model_name == rpc_target.model
    declared = {output.name: output for output in rpc_target.metadata.outputs}
    assert {output.name for output in answer.outputs} == declared.keys()
    for output in answer.outputs:
        said = declared[output.name]
        assert output.datatype == said.datatype
        assert all(free in (-1, size) for free, size in zip(said.shape, output.shape, strict=True))


def test_raw_contents_are_answered_as_typed_ones(rpc_target: RpcTarget) -> None:
    typed, raw = rpc_target.infer(), rpc_target.send(rpc_target.raw_request())

    assert_same(arrays_of(typed), arrays_of(raw))


def test_lists_of_numbers_may_be_packed_or_not(rpc_target: RpcTarget) -> None:
    packed = rpc_target.request().SerializeToString()
    spread = NOT_PACKED["ModelInferRequest"].FromString(packed).SerializeToString()

    assert len(spread) > len(packed)
    assert_same(arrays_of(rpc_target.send(packed)), arrays_of(rpc_target.send(spread)))


def test_fields_of_a_newer_protocol_are_skipped(rpc_target: RpcTarget) -> None:
    message = rpc_target.raw_request().SerializeToString()

    assert_same(arrays_of(rpc_target.send(message)), arrays_of(rpc_target.send(message + A_NEWER_FIELD)))


@pytest.mark.parametrize("given", ["1", "a longer id: ü/{}", "0" * 300])
def test_the_id_of_a_request_is_the_id_of_its_answer(rpc_target: RpcTarget, given: str) -> None:
    assert rpc_target.infer(id=given).id == given
    assert rpc_target.send(rpc_target.raw_request(id=given)).id == given


def test_several_rows_are_answered_in_order(rpc_target: RpcTarget) -> None:
    if not all(tensor.shape[:1] == [-1] for tensor in rpc_target.metadata.inputs):
        pytest.skip("the model has no rows")
    one = arrays_of(rpc_target.infer())
    several = rpc_target.raw_request([tensor.rows(3) for tensor in rpc_target.inputs])

    answered = arrays_of(rpc_target.send(several))

    for i in range(3):
        assert_same(one, {name: array[i : i + 1] for name, array in answered.items()})


def test_only_the_outputs_that_are_asked_for_are_answered(rpc_target: RpcTarget) -> None:
    every = arrays_of(rpc_target.infer())
    for output in rpc_target.metadata.outputs:
        answer = rpc_target.infer(outputs=[{"name": output.name}])

        assert_same({output.name: every[output.name]}, arrays_of(answer))


def test_the_order_of_inputs_means_nothing(rpc_target: RpcTarget) -> None:
    if len(rpc_target.inputs) == 1:
        pytest.skip("the model has one input")
    reverse = rpc_target.raw_request(rpc_target.inputs[::-1])

    assert_same(arrays_of(rpc_target.infer()), arrays_of(rpc_target.send(reverse)))


def test_an_unknown_model_is_an_error_and_not_ready(rpc_target: RpcTarget) -> None:
    message = rpc_target.request()
    message.model_name = NOBODY

    refusal(partial(rpc_target.send, message))
    refusal(partial(rpc_target.ask, "ModelMetadata", name=NOBODY))
    assert not is_ready(rpc_target, name=NOBODY)


def test_an_unknown_version_is_an_error_and_not_ready(rpc_target: RpcTarget) -> None:
    about = {"name": rpc_target.model, "version": "987654"}

    refusal(partial(rpc_target.infer, model_version="987654"))
    refusal(partial(rpc_target.ask, "ModelMetadata", **about))
    assert not is_ready(rpc_target, **about)


def is_ready(target: RpcTarget, **about: str) -> bool:
    """Whether it is: that it is not may be an answer or an error."""
    answer = outcome(partial(target.ask, "ModelReady", **about))
    return not isinstance(answer, grpc.RpcError) and answer.ready


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_an_error(rpc_target: RpcTarget, wrong: str) -> None:
    refusal(partial(rpc_target.send, WRONG[wrong](rpc_target)))


@pytest.mark.parametrize("body", [b"\xff", b"\x2a\x05\x0a", b"\x0a\x01\xff"], ids=["no tag", "cut off", "not UTF-8"])
def test_what_is_no_message_is_an_error(rpc_target: RpcTarget, body: bytes) -> None:
    refusal(partial(rpc_target.send, rpc_target.request().SerializeToString() + body))


def test_a_server_serves_on_after_what_it_was_sent(rpc_target: RpcTarget) -> None:
    expected = arrays_of(rpc_target.infer())
    for body in (b"\xff" * 1000, b"", *(WRONG[name](rpc_target) for name in WRONG)):
        outcome(partial(rpc_target.send, body))

    assert_same(expected, arrays_of(rpc_target.infer()))
