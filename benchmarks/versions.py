"""Versions for benchmarks that need a real one and no server: trained once, and kept in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.artifact import Artifact, open_artifact
from models.building import Reporter, build_version
from models.datasets import split_dataset
from models.loading import load_dataset
from models.rows import ModelInput
from models.spec import parse_spec


def trained_version(specification: dict[str, Any], home: Path) -> tuple[Artifact, ModelInput]:
    """The version of a specification and the rows of its test part, `(n_rows, *input_shape)`.

    Args:
        specification: the body of a `POST /train`.
        home: holds a folder for each model's name; one that is there is taken as it is.
    """
    spec = parse_spec(specification)
    directory = home / "versions" / spec.model
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        build_version(spec, directory, Reporter())
    dataset = load_dataset(spec)
    split = split_dataset(dataset, test=spec.split.test, validation=spec.split.validation, by=spec.split.by)
    return open_artifact(directory), dataset.inputs[split.test]
