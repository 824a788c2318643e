"""The OpenAPI document: what routes say of themselves, and what is true of all of them.

Any request may be refused before its route sees it (a body that is too large or too slow, `X-Request-Timeout-Ms`, a
server that ends), in the form of its path. That is said once here, of every operation.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic.json_schema import models_json_schema

from service.answers import ANSWERS, ProtocolError
from service.bodies import JSON
from service.entrance import TIMEOUT_HEADER
from service.problems import CONTENT_TYPE, has_protocol_errors
from service.schemas import Problem

_REFERENCE = "#/components/schemas/{model}"
_GENERATED = ("HTTPValidationError", "ValidationError")
"""FastAPI's own words for refused parameters, which nothing here answers."""
_ERROR = "An error, in the form of the protocol; elsewhere a problem document (RFC 9457)"
_OF_ALL = (500, 503, 504)
_OF_BODIES = (400, 408, 413, 415)
_OUT_OF_TIME = f"The milliseconds of the request's own `{TIMEOUT_HEADER}` have passed"


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Makes the document that FastAPI has generated say what is true of every route."""
    document["components"]["schemas"] = _components(document["components"]["schemas"])
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            _complete(operation, path, ANSWERS.get(path, {}).get(verb, {}))
    return document


def _components(generated: dict[str, Any]) -> dict[str, Any]:
    answers = [answer for verbs in ANSWERS.values() for statuses in verbs.values() for answer in statuses.values()]
    models = [model for answer in answers for model in get_args(answer) or (answer,)]
    every = dict.fromkeys((*models, Problem, ProtocolError))
    _, named = models_json_schema([(model, "validation") for model in every], ref_template=_REFERENCE)
    return {name: schema for name, schema in (generated | named["$defs"]).items() if name not in _GENERATED}


def _schema(answer: Any) -> dict[str, Any]:
    """Of one model, of a list of one, or of one of several."""
    if models := get_args(answer):
        if get_origin(answer) is list:
            return {"type": "array", "items": _schema(models[0])}
        return {"anyOf": [_schema(model) for model in models]}
    return {"$ref": _REFERENCE.format(model=answer.__name__)}


def _complete(operation: dict[str, Any], path: str, answers: dict[int, Any]) -> None:
    responses = operation["responses"]
    in_protocol = has_protocol_errors(path)
    if in_protocol:
        responses.pop("422", None)
    of_bodies = _OF_BODIES if "requestBody" in operation else ()
    for status in (*of_bodies, *_OF_ALL, 400 if in_protocol else 422):
        responses.setdefault(str(status), {})
    for status, response in responses.items():
        if int(status) >= 400:
            name, media = (ProtocolError, JSON) if in_protocol else (Problem, CONTENT_TYPE)
            response["description"] = _OUT_OF_TIME if status == "504" else _ERROR
            response["content"] = {media: {"schema": _schema(name)}}
        if int(status) in answers:
            response.setdefault("content", {}).setdefault(JSON, {})["schema"] = _schema(answers[int(status)])
    operation["responses"] = dict(sorted(responses.items()))
