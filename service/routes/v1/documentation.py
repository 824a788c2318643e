"""What the OpenAPI document says of the V1 routes."""

from __future__ import annotations

from typing import Any

from service.bodies import JSON

_ROW = {
    "age": 59, "sex": 2, "bmi": 32.1, "bp": 101, "s1": 157, "s2": 93.2, "s3": 38, "s4": 4, "s5": 4.8598, "s6": 87,
}  # fmt: skip
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
    "example": {"error": "Servable not found for request: Latest(loans)"},
}
_STATUS = {
    "name": "diabetes",
    "ready": True,
    "model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ],
}
_BY_PLACE = {"": "of the champion", "/versions/{version}": "of a version", "/labels/{label}": "of an alias"}
_CALLS: dict[str, tuple[str, str, tuple[str, ...], Any, Any]] = {
    "predict": (
        "Raw outputs",
        "Row format (`instances`) or column format (`inputs`), as TensorFlow Serving and KServe have them. Answers the "
        "network's own output tensor.",
        ("instances", "inputs", "signature_name"),
        {"instances": [_ROW]},
        {"predictions": [[206.1]]},
    ),
    "classify": (
        "Labels with their probabilities",
        "`examples` are objects by feature name; what `context` says holds for each of them.",
        ("examples", "context", "signature_name"),
        {"examples": [{"image": [0] * 64}]},
        {"results": [[["0", 0.9], ["1", 0.1]]]},
    ),
    "regress": (
        "Values",
        "`examples` are objects by feature name; what `context` says holds for each of them.",
        ("examples", "context", "signature_name"),
        {"examples": [_ROW]},
        {"results": [206.1]},
    ),
    "explain": (
        "Explanations",
        'Takes the options of `POST /explain` beside the rows, or in `parameters`. With `"format": "vertex"` the '
        "answer has Vertex Explainable AI's form.",
        ("instances", "inputs", "signature_name", "parameters", "format"),
        {"instances": [_ROW], "format": "vertex"},
        {
            "explanations": [
                {
                    "attributions": [
                        {
                            "baselineOutputValue": 152.1,
                            "instanceOutputValue": 206.1,
                            "featureAttributions": {"bmi": 21.4},
                            "outputIndex": [0],
                            "outputDisplayName": "progression",
                            "approximationError": 0.0,
                            "outputName": "progression",
                        }
                    ]
                }
            ],
            "predictions": [[206.1]],
            "deployedModelId": "diabetes@1",
        },
    ),
}


def _responses(example: Any, *statuses: int) -> dict[int | str, Any]:
    errors = {status: {"description": "An error", "content": {JSON: {"schema": _ERROR}}} for status in statuses}
    return {200: {"content": {JSON: {"example": example}}}, **errors}


MODELS = _responses({"models": ["breast-cancer", "diabetes", "digits"]})


def call(name: str, place: str) -> dict[str, Any]:
    """Of a `POST`; arguments of `add_api_route`."""
    summary, description, keys, request, answer = _CALLS[name]
    schema = {"type": "object", "properties": {key: _KINDS[key] for key in keys}}
    return {
        "summary": f"{summary}, {_BY_PLACE[place]}",
        "description": description,
        "operation_id": f"v1_{name}{_suffix(place)}",
        "openapi_extra": {
            "parameters": _parameters(place),
            "requestBody": {"required": True, "content": {JSON: {"schema": schema, "example": request}}},
        },
        "responses": _responses(answer, 400, 404, 413, 503, 504),
    }


def status(place: str) -> dict[str, Any]:
    """Of a status; arguments of `add_api_route`."""
    return {
        "summary": f"Status {_BY_PLACE[place] if place else 'of a model'} (KServe and TensorFlow Serving)",
        "operation_id": f"v1_status{_suffix(place)}",
        "openapi_extra": {"parameters": _parameters(place)},
        "responses": _responses(_STATUS, 400, 404, 405, 503),
    }


def metadata(place: str) -> dict[str, Any]:
    return {
        "summary": f"Signature {_BY_PLACE[place]}",
        "operation_id": f"v1_metadata{_suffix(place)}",
        "openapi_extra": {"parameters": _parameters(place)},
        "responses": _responses({"model_spec": {"name": "diabetes", "version": "1"}, "metadata": {}}, 400, 404, 503),
    }


_KINDS: dict[str, Any] = {
    "instances": {"type": "array", "minItems": 1, "description": "a row each: by feature name, in order, or bare"},
    "inputs": {"description": "by feature name a list with each row's value; or a list of rows"},
    "examples": {"type": "array", "minItems": 1, "items": {"type": "object"}},
    "context": {"type": "object"},
    "signature_name": {"type": "string", "enum": ["", "serving_default"]},
    "parameters": {"type": ["object", "null"], "description": "options of `POST /explain`"},
    "format": {"type": "string", "enum": ["vitrine", "vertex"]},
}


def _suffix(place: str) -> str:
    return {"": "", "/versions/{version}": "_version", "/labels/{label}": "_label"}[place]


def _parameters(place: str) -> list[dict[str, Any]]:
    named = {"model": {"type": "string", "example": "diabetes"}}
    if "version" in place:
        named["version"] = {"type": "string", "pattern": "^[0-9]+$", "example": "1"}
    if "label" in place:
        named["label"] = {"type": "string", "example": "champion"}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name, schema in named.items()]
