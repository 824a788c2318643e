"""Which engine predicts for a version, and why, as the API says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from models.artifact import Artifact

EngineName = Literal["onnxruntime", "openvino", "tensorflow"]
Asked = Literal["auto", "onnxruntime", "openvino", "tensorflow"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The engine of a version.

    Attributes:
        reason: why it is this one.
        threads: of one call; None where TensorFlow decides, or the version is not loaded.
        max_difference: per output, the largest difference from Keras's values that was found, as a part of the spread.
        batch_invariant: whether a row has the same bits however many rows a call has; None where nobody measured it.
        measured_ms: where there was a choice, what calls took when the version was loaded, by engine and rows.
    """

    name: EngineName
    reason: str
    precision: Precision = "float32"
    threads: int | None = None
    max_difference: Mapping[str, float | None] | None = None
    batch_invariant: bool | None = None
    measured_ms: Mapping[str, Mapping[str, float]] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def report_of_files(version: Artifact, asked: Asked = "auto") -> EngineReport:
    """What a version's files say of its engine: of one that is not loaded, or predicts in the compute process."""
    export, invariant = version.card["export"], version.card["batch_invariant"]
    if export["engine"] == "tensorflow":
        return EngineReport("tensorflow", export["reason"], batch_invariant=invariant)
    if version.onnx_path is None:
        return EngineReport("tensorflow", "it has no ONNX export")
    if asked == "tensorflow":
        return EngineReport("tensorflow", "VITRINE_ENGINE is tensorflow")
    largest = max(export["max_difference"].values(), default=0.0)
    apart = f"at most {largest:.1g} of an output's spread from Keras"
    return EngineReport(
        "onnxruntime",
        f"its ONNX export was {apart} on {export['rows_compared']:,} rows",
        max_difference=export["max_difference"],
        batch_invariant=invariant,
    )
