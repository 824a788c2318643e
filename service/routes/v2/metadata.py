"""What V2 says of the server and of a version: its tensors, and its configuration as Triton would write it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from models.signature import Feature, Signature
from service.routes.v2.binary import BYTES
from service.routes.v2.matching import TensorSpec, default_output, has_one_sigmoid, inputs_of
from service.serving.served_model import ServedModel

EXTENSIONS = ("binary_tensor_data", "model_repository", "model_configuration", "statistics", "explain")
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino_onnx", "tensorflow": "tensorflow_keras"}
_BACKENDS = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorflow": "tensorflow"}


def server_metadata() -> dict[str, Any]:
    return {"name": "vitrine", "version": version("vitrine"), "extensions": list(EXTENSIONS)}


def model_metadata(served: ServedModel, versions: list[int]) -> dict[str, Any]:
    """Names, datatypes and shapes (-1: rows) of a version's tensors.

    Beside what the protocol asks for, `parameters` say what it has no word for: the features in the order of the
    columns, the labels in the order of the outputs, categories, ranges and units.
    """
    signature = served.signature
    output = default_output(signature)
    return {
        "name": served.record.model,
        "versions": [str(number) for number in versions],
        "platform": _PLATFORMS[served.engine_name],
        "inputs": [_tensor(spec) | {"parameters": _about_input(spec, signature)} for spec in inputs_of(signature)],
        "outputs": [_tensor(output) | {"parameters": _about_output(signature)}],
        "parameters": {"version": str(served.record.version), "task": signature.task, "target": signature.target},
    }


def model_configuration(served: ServedModel, max_rows: int) -> dict[str, Any]:
    """What of Triton's model configuration there is here: enough for perf_analyzer. Shapes are of one row."""
    signature = served.signature
    return {
        "name": served.record.model,
        "platform": _PLATFORMS[served.engine_name],
        "backend": _BACKENDS[served.engine_name],
        "version_policy": {"specific": {"versions": [served.record.version]}},
        "max_batch_size": max_rows,
        "input": [_configured(spec) for spec in inputs_of(signature)],
        "output": [_configured(default_output(signature))],
        "dynamic_batching": {},
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": served.keeps_answers},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.shape]}


def _configured(spec: TensorSpec) -> dict[str, Any]:
    kind = "TYPE_STRING" if spec.datatype == BYTES else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": kind, "dims": list(spec.shape)}


def _about_input(spec: TensorSpec, signature: Signature) -> dict[str, Any]:
    by_name = {feature.name: feature for feature in signature.features}
    if spec.name not in by_name or (len(by_name) > 1 and spec.shape != (1,)):
        return {"features": list(signature.feature_names)}
    return _about_feature(by_name[spec.name])


def _about_feature(feature: Feature) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": feature.kind, "nullable": feature.nullable}
    if feature.kind == "image":
        about["value_range"] = list(feature.value_range)
    if feature.kind == "categorical" and feature.vocabulary:
        about |= {"categories": list(feature.vocabulary), "unseen": feature.unseen}
    return about


def _about_output(signature: Signature) -> dict[str, Any]:
    others = list(signature.outputs if has_one_sigmoid(signature) else signature.outputs[1:])
    about: dict[str, Any] = {"labels": list(signature.targets[-signature.n_network_outputs :])}
    if signature.unit:
        about["unit"] = signature.unit
    if others:
        about["on_request"] = others
    return about
