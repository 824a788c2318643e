"""What the OpenAPI document says of the routes of V2, which read their bodies themselves."""

from __future__ import annotations

from typing import Any

from service.routes.v2.binary import DATATYPES

SERVER = {"name": "vitrine", "version": "0.1.0", "extensions": ["binary_tensor_data", "explain"]}
MODEL = {
    "name": "diabetes",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 10]}],
    "outputs": [{"name": "value", "datatype": "FP32", "shape": [-1, 1]}],
}
_ROW = [59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]
INFER = {"id": "1", "inputs": [{"name": "input", "shape": [1, 10], "datatype": "FP32", "data": _ROW}]}
INFERRED = {
    "model_name": "diabetes",
    "model_version": "1",
    "id": "1",
    "outputs": [{"name": "value", "datatype": "FP32", "shape": [1, 1], "data": [206.1]}],
}
EXPLAIN = {**INFER, "parameters": {"method": "exact"}, "outputs": [{"name": "attributions"}, {"name": "base_values"}]}
EXPLAINED = {
    "model_name": "diabetes",
    "model_version": "1",
    "id": "1",
    "parameters": {"explanation": "01KAJ5ZV3M9W8W4D9J7YQ2T6RB", "method": "exact", "estimand": "shapley", "seed": 0},
    "outputs": [{"name": "base_values", "datatype": "FP64", "shape": [1, 1], "data": [152.1]}],
}
INDEX = [{"name": "diabetes", "version": "1", "state": "READY", "reason": ""}]

_PARAMETERS = {"type": "object", "description": "strings, numbers and booleans by name"}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}, "description": "nested or flat; row-major"},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
    },
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def tensors(example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes tensors."""
    content = {
        "application/json": {"schema": _REQUEST, "example": example},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "bytes of JSON before raw tensors; 0: the body is the one input",
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [header]}


def tensor_answers(*error_statuses: int, example: Any = None) -> dict[int | str, Any]:
    """The answers of a route that answers tensors: as JSON, or behind it as raw bytes."""
    found = answers(*error_statuses, example=example)
    content = found.setdefault(200, {}).setdefault("content", {"application/json": {}})
    content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return found


def small(example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is optional."""
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"requestBody": {"required": False, "content": content}}


def answers(*error_statuses: int, example: Any = None) -> dict[int | str, Any]:
    """The answers of a route: 200, and errors in the protocol's form."""
    found: dict[int | str, Any] = {}
    if example is not None:
        found[200] = {"content": {"application/json": {"example": example}}}
    for status in error_statuses:
        found[status] = {"description": "An error", "content": {"application/json": {"schema": _ERROR}}}
    return found
