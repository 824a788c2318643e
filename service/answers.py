"""What routes answer, as the OpenAPI document says it. Nothing is validated against these while serving: routes write
their answers themselves, and tests ask a running server for every one of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas import AliasAnswer, ModelList


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Value(Answer):
    """A regression of one target."""

    value: float | None


class Values(Answer):
    """A regression of several targets."""

    values: dict[str, float | None]


class Classification(Answer):
    label: str
    probabilities: dict[str, float | None]


Prediction = Classification | Values | Value


class Predictions(Answer):
    id: str
    model: str
    version: int
    predictions: list[Prediction]


class RecordedPrediction(Predictions):
    created_at: str
    inputs: list[Any] | None = Field(description="as they were sent; null where none are kept")
    redacted: list[str]


class Share(Answer):
    """What is attributed to one player: a feature, a window of a channel, a word."""

    feature: str
    attribution: float
    standard_error: float | None


class Heatmap(Answer):
    feature: str
    shape: list[int] = Field(min_length=2, max_length=2)
    attributions: list[list[float]]
    standard_errors: list[list[float]] | None
    segments: list[list[int]] | None = None


class ExplainedTarget(Answer):
    target: str
    base_value: float
    value: float
    attributions: list[Share] | None = None
    heatmap: Heatmap | None = None
    omitted: float
    efficiency_residual: float
    max_standard_error: float | None


class ExplainedRow(Answer):
    prediction: Prediction
    evaluations: int
    stop_reason: Literal["exact", "closed-form", "tolerance", "deadline", "budget"]
    targets: list[ExplainedTarget]


class Receipt(Answer):
    method: str
    estimand: str
    output: str
    seed: int
    engine: str
    recorded: bool


class Explanation(Answer):
    id: str
    created_at: str
    model: str
    version: int
    explanations: list[ExplainedRow]
    receipt: Receipt


class VertexAttribution(Answer):
    baselineOutputValue: float  # noqa: N815 (Vertex's names)
    instanceOutputValue: float  # noqa: N815
    featureAttributions: dict[str, Any]  # noqa: N815
    outputIndex: list[int]  # noqa: N815
    outputDisplayName: str  # noqa: N815
    approximationError: float | None  # noqa: N815
    outputName: str  # noqa: N815


class VertexExplanation(Answer):
    attributions: list[VertexAttribution]


class VertexExplanations(Answer):
    """Explanations in the form of Vertex Explainable AI (`"format": "vertex"`)."""

    explanations: list[VertexExplanation]
    predictions: list[Any]
    deployedModelId: str  # noqa: N815


class QueuedExplanation(Answer):
    """An explanation that is computed, and fetched later."""

    id: str
    created_at: str
    model: str
    version: int
    status: Literal["queued", "running"]
    progress: dict[str, Any]
    links: dict[str, str]


class FetchedExplanation(Answer):
    """A recorded explanation, of rows or of a version over many rows."""

    id: str
    model: str
    version: int
    receipt: dict[str, Any]


class Replay(Answer):
    identical: bool
    max_difference: float | None
    differs_in: list[str]
    explanation: Explanation


class Dataset(Answer):
    id: str
    name: str
    bytes: int
    created_at: str
    format: str | None
    rows: int | None
    columns: list[str] | None
    links: dict[str, str]


class DatasetList(Answer):
    datasets: list[Dataset]


class Job(Answer):
    job: str
    model: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    step: str | None
    progress: dict[str, Any] | None
    attempt: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    version: int | None
    promoted: bool | None
    gates: list[dict[str, Any]]
    error: dict[str, Any] | None
    spec: dict[str, Any]
    links: dict[str, str]


class JobList(Answer):
    jobs: list[Job]


class TrialList(Answer):
    trials: list[dict[str, Any]]


class Schedule(Answer):
    model: str
    cron: str
    timezone: Literal["UTC"]
    status: str
    spec: dict[str, Any]
    next_run_at: str | None
    last_run: dict[str, Any] | None
    links: dict[str, str]


class ScheduleList(Answer):
    schedules: list[Schedule]


class ModelDocument(Answer):
    name: str
    task: str
    aliases: dict[str, int]
    traffic: dict[str, int]
    versions: list[dict[str, Any]]
    loaded: list[int]
    moves: list[dict[str, Any]]


class Card(Answer):
    model: str
    version: int
    job: str
    decisions: list[dict[str, Any]]
    signature: dict[str, Any]
    files: dict[str, str]


class Surrogate(Answer):
    model: str
    version: int
    task: str
    depth: int
    leaves: int
    fidelity: dict[str, Any]
    root: dict[str, Any]


class Pruned(Answer):
    dry_run: bool
    versions: list[dict[str, Any]]
    kept: list[dict[str, Any]]


class TrafficAnswer(Answer):
    model: str
    traffic: dict[str, int]


class Readiness(Answer):
    status: Literal["ready", "degraded", "starting", "draining"]
    models: dict[str, dict[str, Any]]
    problems: list[str]


class ProtocolError(Answer):
    """An error as V1 and V2 have it."""

    error: str


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


class ModelNames(Answer):
    models: list[str]


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


ANSWERS: dict[str, dict[str, dict[int, Any]]] = {
    "/predict": {"post": {200: Predictions}},
    "/explain": {"post": {200: Explanation | VertexExplanations, 202: QueuedExplanation}},
    "/explain/global": {"post": {202: QueuedExplanation}},
    "/predictions/{prediction}": {"get": {200: RecordedPrediction}},
    "/predictions/{prediction}/explain": {
        "post": {200: Explanation | VertexExplanations, 202: QueuedExplanation},
    },
    "/explanations/{explanation}": {"get": {200: FetchedExplanation, 202: QueuedExplanation}},
    "/explanations/{explanation}/replay": {"post": {200: Replay}},
    "/datasets": {"get": {200: DatasetList}, "post": {200: Dataset, 201: Dataset}},
    "/datasets/{dataset}": {"get": {200: Dataset}},
    "/train": {"get": {200: JobList}, "post": {202: Job}},
    "/train/{job}": {"get": {200: Job}},
    "/train/{job}/cancel": {"post": {202: Job}},
    "/train/{job}/resume": {"post": {202: Job}},
    "/train/{job}/trials": {"get": {200: TrialList}},
    "/schedules": {"get": {200: ScheduleList}},
    "/models/{model}/schedule": {"get": {200: Schedule}, "put": {200: Schedule}},
    "/models/{model}/schedule/pause": {"post": {200: Schedule}},
    "/models/{model}/schedule/resume": {"post": {200: Schedule}},
    "/models": {"get": {200: ModelList}},
    "/models/prune": {"post": {200: Pruned}},
    "/models/{model}": {"get": {200: ModelDocument}},
    "/models/{model}/versions": {"post": {202: Job}},
    "/models/{model}/versions/{version}": {"get": {200: Card}},
    "/models/{model}/versions/{version}/surrogate": {"get": {200: Surrogate}},
    "/models/{model}/aliases/{alias}": {"put": {200: AliasAnswer}},
    "/models/{model}/traffic": {"put": {200: TrafficAnswer}},
    "/models/{model}/rollback": {"post": {200: AliasAnswer}},
    "/health/ready": {"get": {200: Readiness, 503: Readiness}},
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
"""The JSON of answers, by path, verb and status."""
