"""What the routes of V2 answer."""

from __future__ import annotations

from typing import Any, Literal

from service.answers.base import Answer, Answers, ModelNames


class ServerMetadata(Answer):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Answer):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Answer):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(TensorMetadata):
    data: list[Any] | None = None


class InferredTensors(Answer):
    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class ServerLiveness(Answer):
    live: bool


class ServerReadiness(Answer):
    ready: bool


class ModelState(Answer):
    name: str
    ready: bool


class ModelConfiguration(Answer):
    name: str
    platform: str
    max_batch_size: int
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]


class ModelStatistics(Answer):
    model_stats: list[dict[str, Any]]


class VersionState(Answer):
    name: str
    version: str
    state: Literal["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]
    reason: str


class LoadedModel(Answer):
    name: str
    load: bool
    version: str


class UnloadedModel(Answer):
    name: str
    unload: bool
    versions: list[str]


V2: Answers = {
    "/v2": {"get": {200: ServerMetadata}},
    "/v2/health/live": {"get": {200: ServerLiveness}},
    "/v2/health/ready": {"get": {200: ServerReadiness}},
    "/v2/models": {"get": {200: ModelNames}},
    "/v2/models/stats": {"get": {200: ModelStatistics}},
    **{
        path: answers
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        for path, answers in (
            (base, {"get": {200: ModelMetadata}}),
            (base + "/ready", {"get": {200: ModelState}}),
            (base + "/config", {"get": {200: ModelConfiguration}}),
            (base + "/stats", {"get": {200: ModelStatistics}}),
            (base + "/infer", {"post": {200: InferredTensors}}),
            (base + "/explain", {"post": {200: InferredTensors}}),
        )
    },
    "/v2/repository/index": {"post": {200: list[VersionState]}},
    "/v2/repository/models/{model}/load": {"post": {200: LoadedModel}},
    "/v2/repository/models/{model}/unload": {"post": {200: UnloadedModel}},
}
