"""Versions that are there already, as candidates for the gates of other specifications."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explain.gradients import KerasGradient, fitting_slice_rows
from explain.paths import Gradient
from models.artifact import Artifact
from models.building import choose_background
from models.gates.gate import Candidate, outputs_of
from models.gradient_export import open_gradient
from models.outputs import target_model
from models.parts import dataset_of
from models.sources.folder import DataFolder
from models.spec import read_spec

NO_FILES = DataFolder(Path("nowhere"), 2**20)
"""Built-in data needs none."""


def candidate_of(artifact: Artifact, data: DataFolder = NO_FILES, **gates: Any) -> Candidate:
    """A version as it was when its gates were judged."""
    dataset, split = dataset_of(artifact, data)
    evaluate = outputs_of(artifact)
    background = choose_background(dataset, split, artifact.card["background"]["rows"], 0)
    outputs = evaluate(dataset.inputs[split.test])
    spec = read_spec({**artifact.card["spec"], "gates": gates})
    return Candidate(spec, dataset, split, outputs, {}, evaluate, lambda: gradient_of(artifact), background)


def gradient_of(artifact: Artifact) -> Gradient:
    output = artifact.signature.outputs[0]
    if (exported := open_gradient(artifact, output, threads=1)) is not None:
        return exported
    network = target_model(artifact.load_keras(), artifact.signature, output)
    return KerasGradient(network, fitting_slice_rows(network))
