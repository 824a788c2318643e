"""What the routes of V1 answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.answers.base import Answer, Answers, ModelNames
from service.answers.native import Explanation, VertexExplanations


class RowOutputs(Answer):
    predictions: list[Any]


class ColumnOutputs(Answer):
    outputs: list[Any]


class ClassifiedExamples(Answer):
    results: list[list[Annotated[list[str | float], Field(min_length=2, max_length=2, description="label, score")]]]


class RegressedExamples(Answer):
    results: list[float]


class ExplainedInstances(Explanation):
    predictions: list[Any]


class VersionStatus(Answer):
    version: str
    state: Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    status: dict[str, str]


class ModelStatus(Answer):
    name: str
    ready: bool
    model_version_status: list[VersionStatus]


class ModelSignature(Answer):
    model_spec: dict[str, str]
    metadata: dict[str, Any]


V1: Answers = {
    "/v1/models": {"get": {200: ModelNames}},
    **{
        path: answers
        for place in ("", "/versions/{version}", "/labels/{label}")
        for base in ("/v1/models/{model}" + place,)
        for path, answers in (
            (base, {"get": {200: ModelStatus}}),
            (base + "/metadata", {"get": {200: ModelSignature}}),
            (base + ":predict", {"post": {200: RowOutputs | ColumnOutputs}}),
            (base + ":classify", {"post": {200: ClassifiedExamples}}),
            (base + ":regress", {"post": {200: RegressedExamples}}),
            (base + ":explain", {"post": {200: ExplainedInstances | VertexExplanations}}),
        )
    },
}
