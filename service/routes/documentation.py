"""What the OpenAPI document says of routes that read their bodies themselves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from service.problems import CONTENT_TYPE
from service.schemas import Problem


def request_body(model: type[BaseModel], examples: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route with a JSON body, its schema and named examples."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"application/json": {"schema": schema, "examples": named}}
    return {"requestBody": {"required": True, "content": content}}


def responses(*problem_statuses: int, example: Any = None, media: dict[str, Any] | None = None) -> dict[int | str, Any]:
    """The answers of a route: 200 with an example, and problem documents."""
    content = {"application/json": {"example": example}} | (media or {}) if example is not None else media or {}
    answers: dict[int | str, Any] = {200: {"content": content}} if content else {}
    for status in problem_statuses:
        answers[status] = {
            "description": "A problem document (RFC 9457)",
            "content": {CONTENT_TYPE: {"schema": Problem.model_json_schema()}},
        }
    return answers
