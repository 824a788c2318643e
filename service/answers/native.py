"""What our own routes answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.answers.base import Answer, Answers
from service.schemas import AliasAnswer, ModelList


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


NATIVE: Answers = {
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
}
