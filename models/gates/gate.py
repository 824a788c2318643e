"""What a gate says, and what it is given to say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.paths import Gradient
from models.artifact import Artifact
from models.datasets import Dataset, Split
from models.rows import ModelInput
from models.spec import TrainingSpec

Outputs = NDArray[np.floating[Any]]
"""`(n_rows, n_targets)`: probabilities by label, or values in the target's units."""
Verdict = dict[str, Any]
"""`{"gate", "kind", "passed", "value", "limit", ...}` and figures of the kind; JSON."""


@dataclass(frozen=True)
class Champion:
    """The version that `champion` points at while a candidate is judged."""

    version: int
    directory: Path


@dataclass(frozen=True)
class Candidate:
    """A version that is built and not yet put in place.

    Attributes:
        outputs: of the rows of the test part.
        evaluation: what the card says of them.
        evaluate: the engine that will serve it, for its default output.
        gradient: makes ready what will take the gradients of that output when it is served.
    """

    spec: TrainingSpec
    dataset: Dataset
    split: Split
    outputs: Outputs
    evaluation: Mapping[str, Any]
    evaluate: Callable[[ModelInput], Outputs]
    gradient: Callable[[], Gradient]
    background: tuple[ModelInput, NDArray[np.float64]]

    @property
    def test_rows(self) -> ModelInput:
        return self.dataset.inputs[self.split.test]

    @property
    def test_targets(self) -> NDArray[Any]:
        return self.dataset.targets[self.split.test]


def outputs_of(artifact: Artifact) -> Callable[[ModelInput], Outputs]:
    """What computes the default output of a version that is in place: ONNX Runtime where it has an export."""
    from models.inference import keras_outputs, open_session, session_outputs

    signature = artifact.signature
    if (path := artifact.onnx_path) is not None:
        return session_outputs(open_session(path.read_bytes(), threads=1), signature)[signature.outputs[0]]
    return keras_outputs(artifact.load_keras(), signature)[signature.outputs[0]]
