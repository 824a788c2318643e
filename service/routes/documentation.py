"""What the OpenAPI document says of routes that read their bodies themselves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

_BINARY = {"type": "string", "format": "binary"}


def request_body(model: type[BaseModel], examples: dict[str, Any], others: Collection[str] = ()) -> dict[str, Any]:
    """`openapi_extra` of a route with a JSON body, its schema and named examples.

    Args:
        others: content types of rows in other forms; the other fields are then query parameters.
    """
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"application/json": {"schema": schema, "examples": named}}
    if not others:
        return {"requestBody": {"required": True, "content": content}}
    body = {"required": True, "content": content | {kind: {"schema": _BINARY} for kind in others}}
    said = "for rows that are not JSON: as the field of the JSON body"
    parameters = [
        {"name": name, "in": "query", "required": False, "description": said, "schema": part}
        for name, part in schema["properties"].items()
        if name != "inputs"
    ]
    return {"requestBody": body, "parameters": parameters}


def form_body(model: type[BaseModel], example: str) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a form of a `file` and a `spec`, which is JSON of a model."""
    schema = model.model_json_schema()
    spec = {**_inlined(schema, schema.pop("$defs", {})), "example": example}
    parts = {"file": {"type": "string", "format": "binary"}, "spec": spec}
    form = {"schema": {"type": "object", "required": ["file", "spec"], "properties": parts}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its definitions in place of the references to them: FastAPI does not see these bodies."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {name: value for name, value in schema.items() if name != "$ref"}
    if reference := schema.get("$ref"):
        whole = {**definitions[reference.rpartition("/")[2]], **whole}
    return {name: _inlined(value, definitions) for name, value in whole.items()}


def responses(*problem_statuses: int, example: Any = None, media: dict[str, Any] | None = None) -> dict[int | str, Any]:
    """The answers of a route: 200 with an example, and the statuses of its problems.

    Their schemas are put in when the document is first asked for: to make them takes as long as to load a version.
    """
    content = {"application/json": {"example": example}} | (media or {}) if example is not None else media or {}
    answers: dict[int | str, Any] = {200: {"content": content}} if content else {}
    return answers | {status: {"description": "A problem document (RFC 9457)"} for status in problem_statuses}
