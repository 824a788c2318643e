"""What V2 over gRPC leaves open: which codes errors have, datatypes beside the model's, parameters, deadlines and
compression, which gRPC and a client's trust ask for; and the extensions that a server names.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from protocol import DTYPES, assert_same
from rpc_protocol import SERVICE, TYPED, WRONG, RpcTarget, arrays_of, ask, outcome, refusal

NOBODY = "there-is-no-such-model"
NUMBERS = tuple(name for name in (*DTYPES, "BF16") if name != "BOOL")
STATES = ("UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING")
_SEED = {"key": "seed", "value": {"int64_param": 1}}


def assert_invalid(error: grpc.RpcError) -> None:
    """A client's error, which names what is wrong."""
    assert error.code() == StatusCode.INVALID_ARGUMENT, error.details()
    assert error.details()


def answered_so_or_refused(target: RpcTarget, expected: dict[str, np.ndarray], message: Any, **how: Any) -> None:
    """A server may take what the protocol leaves open, and then means it; or say that it does not."""
    answer = outcome(partial(target.send, message, **how))
    if isinstance(answer, grpc.RpcError):
        assert answer.code() in (StatusCode.INVALID_ARGUMENT, StatusCode.UNIMPLEMENTED), answer.details()
    else:
        assert_same(expected, arrays_of(answer))


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_an_invalid_argument(rpc_target: RpcTarget, wrong: str) -> None:
    assert_invalid(refusal(partial(rpc_target.send, WRONG[wrong](rpc_target))))


def test_an_unknown_model_or_version_is_not_found(rpc_target: RpcTarget) -> None:
    nobody = rpc_target.request()
    nobody.model_name = NOBODY

    for call in (
        partial(rpc_target.send, nobody),
        partial(rpc_target.infer, model_version="987654"),
        partial(rpc_target.ask, "ModelMetadata", name=NOBODY),
        partial(rpc_target.ask, "ModelMetadata", name=rpc_target.model, version="987654"),
    ):
        assert refusal(call).code() == StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", [SERVICE, "inference.ThereIsNone"])
def test_an_unknown_method_is_unimplemented(channel: grpc.Channel, service: str) -> None:
    call = partial(ask, channel, "ThereIsNone", b"", answer="ServerLiveResponse", service=service)

    assert refusal(call).code() == StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("seconds", [0.0, 1e-4, 1e-3, 3e-3])
def test_a_deadline_is_met_or_kept(rpc_target: RpcTarget, seconds: float) -> None:
    expected = arrays_of(rpc_target.infer())

    answer = outcome(partial(rpc_target.send, rpc_target.request(), timeout=seconds))

    if isinstance(answer, grpc.RpcError):
        assert answer.code() == StatusCode.DEADLINE_EXCEEDED
    else:
        assert_same(expected, arrays_of(answer))
    assert_same(expected, arrays_of(rpc_target.infer()))


@pytest.mark.parametrize("form", ["typed", "raw"])
@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_of_another_datatype_are_the_same_numbers_or_refused(
    rpc_target: RpcTarget, datatype: str, form: str
) -> None:
    if any(tensor.datatype not in NUMBERS for tensor in rpc_target.inputs):
        pytest.skip("the model does not take numbers alone")
    if any(value != int(value) or not 0 <= value < 128 for tensor in rpc_target.inputs for value in tensor.values):
        pytest.skip("the inputs are not numbers that every datatype has")
    if form == "typed" and datatype not in TYPED:
        pytest.skip(f"{datatype} has no typed contents")
    inputs = [
        replace(tensor, datatype=datatype, values=as_kind(tensor.values, datatype)) for tensor in rpc_target.inputs
    ]
    message = rpc_target.raw_request(inputs) if form == "raw" else rpc_target.request([one.typed for one in inputs])

    answered_so_or_refused(rpc_target, arrays_of(rpc_target.infer()), message)


def as_kind(values: tuple[Any, ...], datatype: str) -> tuple[Any, ...]:
    return tuple(map(int if "INT" in datatype else float, values))


@pytest.mark.parametrize(
    "value",
    [{"bool_param": True}, {"int64_param": -1}, {"string_param": "ü"}, {"double_param": 0.5}, {"uint64_param": 2**63}],
    ids=str,
)
@pytest.mark.parametrize("place", ["request", "input", "output"])
def test_a_parameter_that_nobody_knows_is_ignored_or_refused(
    rpc_target: RpcTarget, place: str, value: dict[str, Any]
) -> None:
    message = rpc_target.request(outputs=[{"name": output.name} for output in rpc_target.metadata.outputs])
    where = {"request": message, "input": message.inputs[0], "output": message.outputs[0]}[place]
    where.parameters.add(key="there-is-no-such-parameter", value=value)

    answered_so_or_refused(rpc_target, arrays_of(rpc_target.infer()), message)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
def test_a_compressed_message_is_taken_or_refused(rpc_target: RpcTarget, compression: grpc.Compression) -> None:
    many = rpc_target.raw_request([tensor.rows(8) for tensor in rpc_target.inputs])
    expected = arrays_of(rpc_target.send(many))

    answered_so_or_refused(rpc_target, expected, many, compression=compression)


def test_grpc_s_own_health_check_says_that_the_server_serves(channel: grpc.Channel) -> None:
    check = partial(ask, channel, "Check", b"", answer="HealthCheckResponse", service="grpc.health.v1.Health")

    answer = outcome(check)

    if isinstance(answer, grpc.RpcError):
        assert answer.code() == StatusCode.UNIMPLEMENTED
        pytest.skip("the server has no grpc.health.v1.Health")
    assert answer.status == 1


def test_the_repository_lists_models_with_their_states(rpc_target: RpcTarget) -> None:
    rpc_target.needs("model_repository")

    every = rpc_target.ask("RepositoryIndex").models
    ready = rpc_target.ask("RepositoryIndex", ready=True).models

    assert rpc_target.model in {entry.name for entry in every}
    assert {entry.state for entry in every} <= set(STATES)
    assert {entry.state for entry in ready} == {"READY"}


def test_a_model_is_loaded_and_an_unknown_one_is_not(rpc_target: RpcTarget) -> None:
    rpc_target.needs("model_repository")

    rpc_target.ask("RepositoryModelLoad", model_name=rpc_target.model)

    assert rpc_target.ask("ModelReady", name=rpc_target.model).ready
    for action in ("RepositoryModelLoad", "RepositoryModelUnload"):
        refusal(partial(rpc_target.ask, action, model_name=NOBODY))


def test_the_configuration_has_the_tensors_of_the_metadata(rpc_target: RpcTarget) -> None:
    rpc_target.needs("model_configuration")

    configuration = rpc_target.ask("ModelConfig", name=rpc_target.model).config

    assert configuration.name == rpc_target.model
    rows = [-1] if configuration.max_batch_size else []
    for configured, described in (
        (configuration.input, rpc_target.metadata.inputs),
        (configuration.output, rpc_target.metadata.outputs),
    ):
        for tensor, said in zip(configured, described, strict=True):
            assert (tensor.name, [*rows, *tensor.dims]) == (said.name, list(said.shape))


def test_the_statistics_count_rows_requests_and_time(rpc_target: RpcTarget) -> None:
    rpc_target.needs("statistics")

    def of_model() -> np.ndarray:
        (one, *_) = rpc_target.ask("ModelStatistics", name=rpc_target.model).model_stats
        success = one.inference_stats.success
        return np.array([one.inference_count, success.count, success.ns])

    before = of_model()
    rpc_target.infer()
    rows, requests, ns = of_model() - before

    assert (rows, requests) == (1, 1)
    assert ns > 0


@pytest.mark.parametrize("raw", [False, True])
def test_attributions_add_up_to_the_value(rpc_target: RpcTarget, raw: bool) -> None:
    rpc_target.needs("explain")
    names = ("attributions", "base_values", "values", "efficiency_residuals")
    make = rpc_target.raw_request if raw else rpc_target.request
    message = make(outputs=[{"name": name} for name in names], parameters=[_SEED])

    found = arrays_of(ask(rpc_target.channel, "ModelExplain", message, answer="ModelInferResponse"))

    sums = found["attributions"].reshape(*found["values"].shape, -1).sum(axis=2)
    expected = found["values"] - found["base_values"] + found["efficiency_residuals"]
    np.testing.assert_allclose(sums, expected, atol=1e-6 * max(1, np.abs(found["values"]).max()))
