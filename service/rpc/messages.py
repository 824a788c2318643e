"""The messages of the protocol: their fields, and classes made of them when the process starts.

Nothing is generated: with protobuf's own descriptors a table says as much as a file that a compiler has to be run on.
Names and numbers are the public ones, of the Open Inference Protocol and of Triton's extensions to it (tested against
the clients'); of Triton's model configuration there is what is answered here. The answers about loading have kserve's
fields, where Triton's have none. Details of errors and the health check are gRPC's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClassesForFiles

from service.errors import NotReadable
from service.rpc.bounds import Malformed, check_counts

PROTOCOL, ERRORS, HEALTH = "inference", "google.rpc", "grpc.health.v1"
SERVICE, HEALTH_SERVICE = f"{PROTOCOL}.GRPCInferenceService", f"{HEALTH}.Health"

Fields = Mapping[str, tuple[int, str]]
"""By name: the number and the type. `[T]` is a list, `{T}` a map from strings, `?T` one of several that exclude one
another."""

_PARAMETER: Fields = {"bool_param": (1, "?bool"), "int64_param": (2, "?int64"), "string_param": (3, "?string")}
_NAME_AND_VERSION: Fields = {"name": (1, "string"), "version": (2, "string")}
_PARAMETERS: tuple[int, str] = (4, "{InferParameter}")
_STAGES: Fields = {
    "compute_input": (2, "StatisticDuration"),
    "compute_infer": (3, "StatisticDuration"),
    "compute_output": (4, "StatisticDuration"),
}
_MESSAGES: Mapping[str, Fields] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**_NAME_AND_VERSION, "extensions": (3, "[string]")},
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "ModelMetadataResponse.TensorMetadata": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "[int64]"),
        "parameters": _PARAMETERS,
    },
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "[string]"),
        "platform": (3, "string"),
        "inputs": (4, "[ModelMetadataResponse.TensorMetadata]"),
        "outputs": (5, "[ModelMetadataResponse.TensorMetadata]"),
        "properties": (6, "{string}"),
    },
    "InferParameter": {**_PARAMETER, "double_param": (4, "?double"), "uint64_param": (5, "?uint64")},
    "InferTensorContents": {
        "bool_contents": (1, "[bool]"),
        "int_contents": (2, "[int32]"),
        "int64_contents": (3, "[int64]"),
        "uint_contents": (4, "[uint32]"),
        "uint64_contents": (5, "[uint64]"),
        "fp32_contents": (6, "[float]"),
        "fp64_contents": (7, "[double]"),
        "bytes_contents": (8, "[bytes]"),
    },
    "ModelInferRequest.InferInputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "[int64]"),
        "parameters": _PARAMETERS,
        "contents": (5, "InferTensorContents"),
    },
    "ModelInferRequest.InferRequestedOutputTensor": {"name": (1, "string"), "parameters": (2, "{InferParameter}")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": _PARAMETERS,
        "inputs": (5, "[ModelInferRequest.InferInputTensor]"),
        "outputs": (6, "[ModelInferRequest.InferRequestedOutputTensor]"),
        "raw_input_contents": (7, "[bytes]"),
    },
    "ModelInferResponse.InferOutputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "[int64]"),
        "parameters": _PARAMETERS,
        "contents": (5, "InferTensorContents"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": _PARAMETERS,
        "outputs": (5, "[ModelInferResponse.InferOutputTensor]"),
        "raw_output_contents": (6, "[bytes]"),
    },
    "ModelStreamInferResponse": {"error_message": (1, "string"), "infer_response": (2, "ModelInferResponse")},
    "ModelConfigRequest": _NAME_AND_VERSION,
    "ModelConfigResponse": {"config": (1, "ModelConfig")},
    "ModelConfig": {
        "name": (1, "string"),
        "platform": (2, "string"),
        "version_policy": (3, "ModelVersionPolicy"),
        "max_batch_size": (4, "int32"),
        "input": (5, "[ModelInput]"),
        "output": (6, "[ModelOutput]"),
        "dynamic_batching": (11, "ModelDynamicBatching"),
        "backend": (17, "string"),
        "model_transaction_policy": (19, "ModelTransactionPolicy"),
        "response_cache": (24, "ModelResponseCache"),
    },
    "ModelVersionPolicy.Specific": {"versions": (1, "[int64]")},
    "ModelVersionPolicy": {"specific": (3, "ModelVersionPolicy.Specific")},
    "ModelInput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "[int64]")},
    "ModelOutput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (3, "[int64]")},
    "ModelDynamicBatching": {},
    "ModelTransactionPolicy": {"decoupled": (1, "bool")},
    "ModelResponseCache": {"enable": (1, "bool")},
    "ModelStatisticsRequest": _NAME_AND_VERSION,
    "ModelStatisticsResponse": {"model_stats": (1, "[ModelStatistics]")},
    "ModelStatistics": {
        **_NAME_AND_VERSION,
        "last_inference": (3, "uint64"),
        "inference_count": (4, "uint64"),
        "execution_count": (5, "uint64"),
        "inference_stats": (6, "InferStatistics"),
        "batch_stats": (7, "[InferBatchStatistics]"),
        "memory_usage": (8, "[MemoryUsage]"),
        "response_stats": (9, "{InferResponseStatistics}"),
    },
    "StatisticDuration": {"count": (1, "uint64"), "ns": (2, "uint64")},
    "InferStatistics": {
        "success": (1, "StatisticDuration"),
        "fail": (2, "StatisticDuration"),
        "queue": (3, "StatisticDuration"),
        "compute_input": (4, "StatisticDuration"),
        "compute_infer": (5, "StatisticDuration"),
        "compute_output": (6, "StatisticDuration"),
        "cache_hit": (7, "StatisticDuration"),
        "cache_miss": (8, "StatisticDuration"),
    },
    "InferBatchStatistics": {"batch_size": (1, "uint64"), **_STAGES},
    "InferResponseStatistics": {
        "compute_infer": (1, "StatisticDuration"),
        "compute_output": (2, "StatisticDuration"),
        "success": (3, "StatisticDuration"),
        "fail": (4, "StatisticDuration"),
        "empty_response": (5, "StatisticDuration"),
        "cancel": (6, "StatisticDuration"),
    },
    "MemoryUsage": {"type": (1, "string"), "id": (2, "int64"), "byte_size": (3, "uint64")},
    "ModelRepositoryParameter": {**_PARAMETER, "bytes_param": (4, "?bytes")},
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "RepositoryIndexResponse.ModelIndex": {**_NAME_AND_VERSION, "state": (3, "string"), "reason": (4, "string")},
    "RepositoryIndexResponse": {"models": (1, "[RepositoryIndexResponse.ModelIndex]")},
    "RepositoryModelLoadRequest": {
        "repository_name": (1, "string"),
        "model_name": (2, "string"),
        "parameters": (3, "{ModelRepositoryParameter}"),
    },
    "RepositoryModelLoadResponse": {"model_name": (1, "string"), "isLoaded": (2, "bool")},
    "RepositoryModelUnloadRequest": {
        "repository_name": (1, "string"),
        "model_name": (2, "string"),
        "parameters": (3, "{ModelRepositoryParameter}"),
    },
    "RepositoryModelUnloadResponse": {"model_name": (1, "string"), "isUnloaded": (2, "bool")},
}
_DATA_TYPES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "STRING", "BF16",
)  # fmt: skip
_ERROR_MESSAGES: Mapping[str, Fields] = {
    # The last two are messages of google.protobuf's, which are the same bytes under any name.
    "Status": {"code": (1, "int32"), "message": (2, "string"), "details": (3, "[Any]")},
    "RetryInfo": {"retry_delay": (1, "Duration")},
    "BadRequest.FieldViolation": {"field": (1, "string"), "description": (2, "string")},
    "BadRequest": {"field_violations": (1, "[BadRequest.FieldViolation]")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "Duration": {"seconds": (1, "int64"), "nanos": (2, "int32")},
}
_HEALTH_MESSAGES: Mapping[str, Fields] = {
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "ServingStatus")},
}
_SCALARS = {
    name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def _file(package: str, messages: Mapping[str, Fields], enums: Mapping[str, tuple[str, ...]]) -> FileDescriptorProto:
    described = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, values in enums.items():
        enum = described.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    made: dict[str, DescriptorProto] = {}
    for name in sorted(messages, key=lambda name: name.count(".")):
        outer, _, own = name.rpartition(".")
        if outer:
            made[name] = made[outer].nested_type.add(name=own)
        else:
            made[name] = described.message_type.add(name=own)
    for name, fields in messages.items():
        for field, (number, kind) in fields.items():
            _add_field(made[name], field, number, kind, f".{package}.{name}", package, enums)
    return described


def _add_field(
    message: DescriptorProto, name: str, number: int, kind: str, place: str, package: str, enums: Mapping[str, Any]
) -> None:
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind[0] in "[{":
        field.label = FieldDescriptorProto.LABEL_REPEATED
    elif kind[0] == "?":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    bare = kind.strip("[]{}?")
    if kind[0] == "{":
        # A map is a list of entries, each a key and a value.
        words = "".join(word.capitalize() for word in name.split("_"))
        entry = message.nested_type.add(name=f"{words}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string", place, package, enums)
        _add_field(entry, "value", 2, bare, place, package, enums)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{place}.{entry.name}"
    elif bare in _SCALARS:
        field.type = _SCALARS[bare]
    else:
        field.type = FieldDescriptorProto.TYPE_ENUM if bare in enums else FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{package}.{bare}"


_FILES = (
    _file(PROTOCOL, _MESSAGES, {"DataType": tuple(f"TYPE_{name}" for name in _DATA_TYPES)}),
    _file(ERRORS, _ERROR_MESSAGES, {}),
    _file(HEALTH, _HEALTH_MESSAGES, {"ServingStatus": ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")}),
)
# A pool of their own: whoever has the protocol's generated code in this process does not meet them.
_POOL = DescriptorPool()
for _described in _FILES:
    _POOL.Add(_described)
_CLASSES = GetMessageClassesForFiles([described.name for described in _FILES], _POOL)


def message_class(name: str, package: str = PROTOCOL) -> Any:
    """The class of a message by its name. Untyped: its fields are in the table above."""
    return _CLASSES[f"{package}.{name}"]


def parsed(kind: Any, body: bytes) -> Any:
    """A message of a class. Raises `NotReadable`, and `InvalidRequest` for one that holds too much."""
    try:
        check_counts(kind.DESCRIPTOR, body)
        return kind.FromString(body)
    except (DecodeError, Malformed):
        raise NotReadable(f"The message is no {kind.DESCRIPTOR.full_name}, or is cut off.") from None
