"""How V1 answers are worded: raw outputs, classes, values, status and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.outputs import network_columns
from models.registry import VersionRecord
from models.signature import Feature, Signature
from service.routes.v1.reading import SIGNATURE_NAME, Rows

OUTPUT = "output"
"""The name of the one output of every version."""
_DTYPES = {"boolean": "DT_BOOL", "categorical": "DT_STRING", "date": "DT_STRING", "text": "DT_STRING"}


def prediction_answer(outputs: np.ndarray, signature: Signature, rows: Rows) -> dict[str, Any]:
    """The network's own output for each row, `(n_rows, n_network_outputs)`.

    Args:
        outputs: `(n_rows, n_targets)`.
        rows: a request in column format is answered in it.
    """
    name = "outputs" if rows.is_columnar else "predictions"
    return {name: np.ascontiguousarray(network_columns(outputs, signature))}


def classification_answer(outputs: np.ndarray, signature: Signature) -> dict[str, Any]:
    """Each row's labels with their probabilities, in the signature's order."""
    return {
        "results": [[[label, score] for label, score in zip(signature.labels, row, strict=True)] for row in outputs]
    }


def regression_answer(outputs: np.ndarray) -> dict[str, Any]:
    return {"results": np.ascontiguousarray(outputs[:, 0])}


@dataclass(frozen=True, slots=True)
class VersionState:
    """How far a version is from serving.

    Attributes:
        problem: why it cannot be loaded; None where nothing is known against it.
    """

    version: int
    is_loaded: bool
    is_wanted: bool
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """In TensorFlow Serving's words: a version that is loaded on demand and was not asked for is at its START."""
        if self.is_loaded:
            state = "AVAILABLE"
        elif self.problem is not None:
            state = "END"
        else:
            state = "LOADING" if self.is_wanted else "START"
        failed = self.problem is not None and not self.is_loaded
        return {
            "version": str(self.version),
            "state": state,
            "status": {
                "error_code": "UNAVAILABLE" if failed else "OK",
                "error_message": self.problem if failed else "",
            },
        }


def version_states(
    versions: Sequence[VersionRecord], loaded: Sequence[int], aliases: Mapping[str, int], problems: Mapping[str, str]
) -> list[VersionState]:
    """The state of each version, the newest first."""
    return [
        VersionState(
            record.version,
            record.version in loaded,
            record.version in aliases.values(),
            problems.get(f"{record.model}/{record.version}"),
        )
        for record in sorted(versions, key=lambda record: -record.version)
    ]


def status_answer(name: str, ready: bool, states: Sequence[VersionState]) -> dict[str, Any]:
    """What KServe and TensorFlow Serving answer at the same path, together."""
    return {"name": name, "ready": ready, "model_version_status": [state.to_json() for state in states]}


def metadata_answer(model: str, version: int, signature: Signature) -> dict[str, Any]:
    """The signature as a SignatureDef; each feature is an input of its own."""
    definition = {
        "inputs": {feature.name: _tensor(feature.name, *_type_of(feature)) for feature in signature.features},
        "outputs": {OUTPUT: _tensor(OUTPUT, "DT_FLOAT", (signature.n_network_outputs,))},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    return {
        "model_spec": {"name": model, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}},
    }


def _type_of(feature: Feature) -> tuple[str, tuple[int, ...]]:
    return _DTYPES.get(feature.kind, "DT_FLOAT"), () if feature.kind == "text" else feature.shape


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    sizes = (-1, *shape)
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False},
        "name": f"{name}:0",
    }
