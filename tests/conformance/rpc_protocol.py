"""What the kit knows of the protocol over gRPC: its messages, and requests that a model should take.

Messages are made from the public names and numbers of their fields (specification/protocol/open_inference_grpc.proto,
and Triton's grpc_service.proto for its extensions), and hold a server to the wire format, not to code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClassesForFiles
from protocol import DTYPES, as_bytes

SERVICE = "inference.GRPCInferenceService"
TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""The field of typed contents by datatype; FP16 and BF16 must be raw."""
TIMEOUT_SECONDS = 120

_NAME_AND_VERSION = "string name 1, string version 2"
_TENSOR = "string name 1, string datatype 2, repeated int64 shape 3"
# Of each field its type, name and number. A map is, as bytes, a list of entries; how messages are called is not sent.
_MESSAGES = {
    **dict.fromkeys(("ServerLiveRequest", "ServerReadyRequest", "ServerMetadataRequest", "HealthCheckRequest"), ""),
    "ServerLiveResponse": "bool live 1",
    "ServerReadyResponse": "bool ready 1",
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": "bool ready 1",
    "ServerMetadataResponse": f"{_NAME_AND_VERSION}, repeated string extensions 3",
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "TensorMetadata": _TENSOR,
    "Property": "string key 1, string value 2",
    "ModelMetadataResponse": "string name 1, repeated string versions 2, string platform 3, "
    "repeated TensorMetadata inputs 4, repeated TensorMetadata outputs 5, repeated Property properties 6",
    "InferParameter": "oneof bool bool_param 1, oneof int64 int64_param 2, oneof string string_param 3, "
    "oneof double double_param 4, oneof uint64 uint64_param 5",
    "Parameter": "string key 1, InferParameter value 2",
    "Contents": "repeated bool bool_contents 1, repeated int32 int_contents 2, repeated int64 int64_contents 3, "
    "repeated uint32 uint_contents 4, repeated uint64 uint64_contents 5, repeated float fp32_contents 6, "
    "repeated double fp64_contents 7, repeated bytes bytes_contents 8",
    "Tensor": f"{_TENSOR}, repeated Parameter parameters 4, Contents contents 5",
    "RequestedOutput": "string name 1, repeated Parameter parameters 2",
    "ModelInferRequest": "string model_name 1, string model_version 2, string id 3, repeated Parameter parameters 4, "
    "repeated Tensor inputs 5, repeated RequestedOutput outputs 6, repeated bytes raw_input_contents 7",
    "ModelInferResponse": "string model_name 1, string model_version 2, string id 3, repeated Parameter parameters 4, "
    "repeated Tensor outputs 5, repeated bytes raw_output_contents 6",
    "RepositoryIndexRequest": "string repository_name 1, bool ready 2",
    "ModelIndex": f"{_NAME_AND_VERSION}, string state 3, string reason 4",
    "RepositoryIndexResponse": "repeated ModelIndex models 1",
    "RepositoryModelLoadRequest": "string repository_name 1, string model_name 2",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "string repository_name 1, string model_name 2",
    "RepositoryModelUnloadResponse": "",
    "ModelConfigRequest": _NAME_AND_VERSION,
    "ConfiguredInput": "string name 1, repeated int64 dims 4",
    "ConfiguredOutput": "string name 1, repeated int64 dims 3",
    "ModelConfig": "string name 1, int32 max_batch_size 4, repeated ConfiguredInput input 5, "
    "repeated ConfiguredOutput output 6",
    "ModelConfigResponse": "ModelConfig config 1",
    "ModelStatisticsRequest": _NAME_AND_VERSION,
    "StatisticDuration": "uint64 count 1, uint64 ns 2",
    "InferStatistics": "StatisticDuration success 1",
    "ModelStatistics": f"{_NAME_AND_VERSION}, uint64 inference_count 4, InferStatistics inference_stats 6",
    "ModelStatisticsResponse": "repeated ModelStatistics model_stats 1",
    "HealthCheckResponse": "int32 status 1",
}


def _made(*, packed: bool) -> dict[str, Any]:
    file = FileDescriptorProto(name="kit.proto", package="kit", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for words in filter(None, fields.split(", ")):
            *label, kind, field_name, number = words.split(" ")
            field = message.field.add(name=field_name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
            if "repeated" in label:
                field.label = FieldDescriptorProto.LABEL_REPEATED
                if kind not in ("string", "bytes") and kind not in _MESSAGES:
                    field.options.packed = packed
            if "oneof" in label:
                if not message.oneof_decl:
                    message.oneof_decl.add(name="choice")
                field.oneof_index = 0
            if kind in _MESSAGES:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".kit.{kind}"
            else:
                field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return {name.removeprefix("kit."): made for name, made in GetMessageClassesForFiles([file.name], pool).items()}


MESSAGES = _made(packed=True)
NOT_PACKED = _made(packed=False)
"""The same messages with each number of a list under a tag of its own, which a reader has to take as well."""


def ask(
    channel: grpc.Channel, method: str, message: Any, *, answer: str | None = None, service: str = SERVICE, **how: Any
) -> Any:
    """The answer of a method to a message, or to bytes in its place. Raises `grpc.RpcError`.

    Args:
        answer: its message; default: that of the method's name.
        how: gRPC's options of a call.
    """
    call = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda given: given if isinstance(given, bytes) else given.SerializeToString(),
        response_deserializer=MESSAGES[answer or f"{method}Response"].FromString,
    )
    return call(message, **({"timeout": TIMEOUT_SECONDS, "wait_for_ready": True} | how))


def outcome(call: Callable[[], Any]) -> Any:
    """The answer of a call, or the error that it ends with."""
    try:
        return call()
    except grpc.RpcError as error:
        return error


def refusal(call: Callable[[], Any]) -> grpc.RpcError:
    """The error that a call ends with; fails where it does not."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@dataclass(frozen=True)
class Given:
    """An input, with its values in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]

    @property
    def raw(self) -> bytes:
        if self.datatype == "BF16":
            return (np.array(self.values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        return as_bytes(self.datatype, list(self.values))

    @property
    def described(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}

    @property
    def typed(self) -> dict[str, Any]:
        values = [value.encode() for value in self.values] if self.datatype == "BYTES" else self.values
        return {**self.described, "contents": {TYPED[self.datatype]: values}}

    def rows(self, times: int) -> Given:
        """Each row several times."""
        return replace(self, shape=(self.shape[0] * times, *self.shape[1:]), values=self.values * times)


@dataclass(frozen=True)
class RpcTarget:
    """A model of a server, and inputs that it takes."""

    channel: grpc.Channel
    model: str
    metadata: Any
    extensions: tuple[str, ...]
    inputs: tuple[Given, ...]

    @staticmethod
    def of(channel: grpc.Channel, model: str, inputs: list[dict[str, Any]] | None) -> RpcTarget:
        server = ask(channel, "ServerMetadata", MESSAGES["ServerMetadataRequest"]())
        metadata = ask(channel, "ModelMetadata", MESSAGES["ModelMetadataRequest"](name=model))
        given = [_example(tensor) for tensor in metadata.inputs] if inputs is None else map(_of_json, inputs)
        target = RpcTarget(channel, model, metadata, tuple(server.extensions), tuple(given))
        # Else everything that ought to be refused would be, for another reason.
        arrays_of(target.infer())
        return target

    def needs(self, extension: str) -> None:
        """Skips a rule of an extension that the server does not name."""
        if extension not in self.extensions:
            pytest.skip(f"the server does not name the extension {extension}")

    def ask(self, method: str, **members: Any) -> Any:
        return ask(self.channel, method, MESSAGES[f"{method}Request"](**members))

    def request(self, inputs: Sequence[dict[str, Any]] | None = None, **members: Any) -> Any:
        """A ModelInferRequest; by default of the inputs with typed contents."""
        given = [tensor.typed for tensor in self.inputs] if inputs is None else inputs
        return MESSAGES["ModelInferRequest"](model_name=self.model, inputs=given, **members)

    def raw_request(self, inputs: Sequence[Given] | None = None, **members: Any) -> Any:
        given = self.inputs if inputs is None else inputs
        raw = [tensor.raw for tensor in given]
        return self.request([tensor.described for tensor in given], raw_input_contents=raw, **members)

    def send(self, message: Any, **how: Any) -> Any:
        return ask(self.channel, "ModelInfer", message, **how)

    def infer(self, **members: Any) -> Any:
        return self.send(self.request(**members))

    def with_first(self, **changes: Any) -> Any:
        """A request whose first input is another in some members."""
        first, *others = (tensor.typed for tensor in self.inputs)
        return self.request([first | changes, *others])

    def raw_with_first(self, raw: bytes) -> Any:
        """A request with other bytes for the first input."""
        message = self.raw_request()
        message.raw_input_contents[0] = raw
        return message


def _example(tensor: Any) -> Given:
    """An input as the metadata describe it, with one where the size is free."""
    shape = tuple(1 if size == -1 else size for size in tensor.shape)
    value = {"BOOL": lambda i: i % 2 == 0, "BYTES": lambda _: "1"}.get(tensor.datatype, lambda i: 1 + i % 7)
    return Given(tensor.name, tensor.datatype, shape, tuple(value(i) for i in range(prod(shape))))


def _of_json(tensor: dict[str, Any]) -> Given:
    values = np.array(tensor["data"], dtype=object).reshape(-1).tolist()
    return Given(tensor["name"], tensor["datatype"], tuple(tensor["shape"]), tuple(values))


def arrays_of(response: Any) -> dict[str, np.ndarray]:
    """The outputs of an answer, typed or raw; fails where they are not as the protocol says."""
    raw, found = response.raw_output_contents, {}
    assert len(raw) in (0, len(response.outputs))
    for place, output in enumerate(response.outputs):
        fields = [field.name for field, _ in output.contents.ListFields()]
        if raw:
            assert fields == [], "contents beside raw_output_contents"
            values = _of_bytes(output.datatype, raw[place])
        else:
            assert fields == [TYPED[output.datatype]]
            given = getattr(output.contents, fields[0])
            values = [value.decode() for value in given] if output.datatype == "BYTES" else list(given)
        assert len(values) == prod(output.shape)
        found[output.name] = np.array(values).reshape(output.shape)
    return found


def _of_bytes(datatype: str, raw: bytes) -> Any:
    if datatype != "BYTES":
        return np.frombuffer(raw, DTYPES[datatype])
    values = []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        values.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return values


def _other_contents(target: RpcTarget) -> Any:
    """Values in a field that is not their datatype's."""
    datatype = target.inputs[0].datatype
    field, value = ("int64_contents", 1) if datatype == "BYTES" else ("bytes_contents", b"1")
    return target.with_first(contents={field: [value] * len(target.inputs[0].values)})


def _other_datatype(target: RpcTarget) -> Any:
    """A tensor that is whole, and of a kind that the model does not take."""
    first = target.inputs[0]
    kind, value = ("FP32", 0.5) if first.datatype == "BYTES" else ("BYTES", "no number")
    wrong = replace(first, datatype=kind, values=(value,) * len(first.values))
    return target.request([wrong.typed, *(tensor.typed for tensor in target.inputs[1:])])


def _half_precision(target: RpcTarget) -> Any:
    return target.with_first(datatype="FP16", contents={"fp32_contents": [1] * len(target.inputs[0].values)})


def _values(target: RpcTarget, change: Callable[[list[Any]], list[Any]]) -> Any:
    contents = target.inputs[0].typed["contents"]
    return target.with_first(contents={field: change(list(values)) for field, values in contents.items()})


def _shape(target: RpcTarget, change: Callable[[tuple[int, ...]], Sequence[int]]) -> Any:
    return target.with_first(shape=change(target.inputs[0].shape))


def _raw(target: RpcTarget, change: Callable[[bytes], bytes]) -> Any:
    return target.raw_with_first(change(target.inputs[0].raw))


def _raw_and_typed(target: RpcTarget) -> Any:
    message = target.request()
    message.raw_input_contents.extend(tensor.raw for tensor in target.inputs)
    return message


def _raw_of_too_many(target: RpcTarget) -> Any:
    message = target.raw_request()
    message.raw_input_contents.append(target.inputs[0].raw)
    return message


def _one_more(target: RpcTarget, **changes: Any) -> Any:
    return target.request([*(tensor.typed for tensor in target.inputs), target.inputs[0].typed | changes])


WRONG: dict[str, Callable[[RpcTarget], Any]] = {
    "an unknown input": lambda target: target.with_first(name="there-is-no-such-input"),
    "an input without a name": lambda target: target.with_first(name=""),
    "an unknown datatype": lambda target: target.with_first(datatype="FLOAT"),
    "no datatype": lambda target: target.with_first(datatype=""),
    "a datatype that the model does not take": _other_datatype,
    "typed contents of another datatype": _other_contents,
    "typed contents of FP16": _half_precision,
    "no shape": partial(_shape, change=lambda _: []),
    "a shape of fewer values": partial(_shape, change=lambda shape: [*shape[:-1], shape[-1] - 1]),
    "a shape of more values": partial(_shape, change=lambda shape: [*shape[:-1], shape[-1] + 1]),
    "a negative size": partial(_shape, change=lambda shape: [-1, *shape[1:]]),
    "a shape of 2**62 values": partial(_shape, change=lambda _: [2**31, 2**31]),
    "a shape of more rows than there is memory": partial(_shape, change=lambda shape: [2**50, *shape[1:]]),
    "a value too few": partial(_values, change=lambda values: values[:-1]),
    "values too many": partial(_values, change=lambda values: values * 2),
    "no values": partial(_values, change=lambda _: []),
    "raw bytes too few": partial(_raw, change=lambda raw: raw[:-1]),
    "raw bytes too many": partial(_raw, change=lambda raw: raw + bytes(4)),
    "no raw bytes": partial(_raw, change=lambda _: b""),
    "raw contents of more inputs than there are": _raw_of_too_many,
    "raw and typed contents": _raw_and_typed,
    "no inputs": lambda target: target.request([]),
    "an input missing": lambda target: target.request([tensor.typed for tensor in target.inputs[1:]]),
    "an input more": lambda target: _one_more(target, name="one-more"),
    "an input twice": _one_more,
    "an unknown output": lambda target: target.request(outputs=[{"name": "there-is-no-such-output"}]),
}
"""Requests that do not fit the model, or not themselves."""
