"""The bodies of requests and answers, with the examples that the OpenAPI document shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from explain.methods import AUTO, METHODS
from models.spec import ModelName

METHOD_NAMES = ", ".join((AUTO, *METHODS))

VersionName = Annotated[
    int | Annotated[str, Field(max_length=200)],
    Field(description="a number (3 or '3') or an alias", examples=["champion", 3], union_mode="left_to_right"),
]


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PredictRequest(RequestBody):
    model: Annotated[str, Field(max_length=200, examples=["diabetes"])]
    version: VersionName = "champion"
    inputs: Annotated[
        list[Any],
        Field(
            min_length=1,
            description="rows: a mapping from feature name to value; for columns also a list in signature order; "
            "for an image also the bare nested list",
            examples=[[[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]]],
        ),
    ]


class ExplainOptions(RequestBody):
    """What can be asked of an explanation, beside its rows."""

    target: Annotated[
        str | Annotated[list[str], Field(min_length=1)],
        Field(description='"predicted", "all", a label, or a list of labels'),
    ] = "predicted"
    output: Annotated[
        Literal["probability", "logit", "value"] | None,
        Field(description="null: the probability of a classification, the value of a regression"),
    ] = None
    method: Annotated[str, Field(description=f"one of {METHOD_NAMES}")] = "auto"
    options: Annotated[
        dict[str, Any], Field(description="options of the method (docs/explanations.md); others are refused")
    ] = {}
    tolerance: Annotated[
        float, Field(gt=0, le=1, description="largest 95 % half-width, as a part of the explanation's scale")
    ] = 0.01
    deadline_ms: Annotated[float, Field(gt=0, le=600_000, description="soft: the answer then has larger errors")] = 1000
    budget: Annotated[int | None, Field(gt=0, description="the most rows put through the network for one row")] = None
    strict: Annotated[bool, Field(description="422 when the tolerance was not reached")] = False
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    top_k: Annotated[int | None, Field(gt=0, description="keep the largest; the rest is summed in `omitted`")] = None
    format: Annotated[
        Literal["vitrine", "vertex"], Field(description="of the answer: ours, or that of Vertex Explainable AI")
    ] = "vitrine"


class ExplainRequest(ExplainOptions, PredictRequest):
    """Rows, and what is asked of their explanations."""


class ExplainPredictionRequest(ExplainOptions):
    rows: Annotated[
        list[Annotated[int, Field(ge=0)]] | None,
        Field(min_length=1, description="which rows of the request, from 0; null: all of them"),
    ] = None


class GlobalExplainRequest(RequestBody):
    """What many rows say together. Times and effort are of each row."""

    model: Annotated[str, Field(max_length=200, examples=["diabetes"])]
    version: VersionName = "champion"
    dataset: Annotated[
        Literal["background", "train", "validation", "test"] | None,
        Field(description="rows of the version's own data; default test, where there are no inputs"),
    ] = None
    inputs: Annotated[
        list[Any] | None, Field(min_length=2, description="rows to explain, in place of those of a data set")
    ] = None
    max_rows: Annotated[
        int, Field(ge=2, le=100_000, description="of a larger data set, so many are drawn by the seed")
    ] = 500
    target: Annotated[
        str | Annotated[list[str], Field(min_length=1)],
        Field(description='"all", "predicted" (each row counts for its own label), a label, or a list of labels'),
    ] = "all"
    output: Annotated[
        Literal["probability", "logit", "value"] | None,
        Field(description="null: the probability of a classification, the value of a regression"),
    ] = None
    method: Annotated[str, Field(description=f"one of {METHOD_NAMES}")] = "auto"
    options: Annotated[dict[str, Any], Field(description="options of the method")] = {}
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.01
    deadline_ms: Annotated[float, Field(gt=0, le=600_000, description="soft, of each row")] = 1000
    budget: Annotated[int | None, Field(gt=0, description="the most rows put through the network for one row")] = None
    strict: Annotated[bool, Field(description="fails when a row has not reached the tolerance")] = False
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class MoveAliasRequest(RequestBody):
    version: VersionName
    force: bool = False
    reason: Annotated[str, Field(max_length=1000)] = ""


class TrafficRequest(RootModel[Annotated[dict[str, Annotated[int, Field(ge=0, le=100)]], Field(min_length=1)]]):
    """Parts of a hundred by alias."""

    model_config = ConfigDict(frozen=True, strict=True)


class RollbackRequest(RequestBody):
    reason: Annotated[str, Field(max_length=1000)] = ""


class PruneRequest(RequestBody):
    keep_versions: Annotated[
        int | None, Field(ge=1, description="latest versions of each model that stay; default: VITRINE_KEEP_VERSIONS")
    ] = None
    model: Annotated[
        str | None, Field(max_length=200, description="of this model alone: neither checkpoints nor imported files")
    ] = None
    dry_run: Annotated[bool, Field(description="delete nothing")] = False


class ScheduleRequest(RequestBody):
    cron: Annotated[
        str, Field(max_length=200, description="minute, hour, day of the month, month, day of the week; in UTC")
    ]
    spec: Annotated[
        dict[str, Any], Field(description="a training specification, without its model; by default the champion's")
    ] = {"from": "champion"}


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: Annotated[str, Field(examples=["/problems/unknown-model"])]
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
    error_count: int | None = None
    available: list[str] | None = None
    request_id: str | None = None


class VersionEngine(BaseModel):
    name: Literal["onnxruntime", "openvino", "tensorflow"]
    reason: str


class ModelSummary(BaseModel):
    name: ModelName
    task: str
    aliases: dict[str, int]
    versions: list[int]
    loaded: list[int]
    engines: Annotated[dict[str, VersionEngine], Field(description="by loaded version: what predicts for it, and why")]
    memory_bytes: Annotated[int, Field(description="what the loaded versions take, in the API and compute processes")]
    traffic: Annotated[
        dict[str, int], Field(description="parts of a hundred, by alias, of the requests that name no version")
    ]


class ModelList(BaseModel):
    models: list[ModelSummary]


class AliasAnswer(BaseModel):
    alias: str
    version: int
    previous: int | None
