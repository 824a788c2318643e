"""The rows of a part of the data that a version was built from, loaded again."""

from __future__ import annotations

import numpy as np

from models.artifact import Artifact
from models.datasets import Dataset, Part, Split, split_dataset
from models.errors import DatasetChanged, NoDataset
from models.loading import load_dataset
from models.rows import ModelInput
from models.sources.folder import DataFolder
from models.spec import read_spec


def dataset_of(artifact: Artifact, data: DataFolder | None) -> tuple[Dataset, Split]:
    """The data that a version was built from, and its parts.

    Raises:
        NoDataset: when the version was imported without one.
        DatasetChanged: when the data is not what the version was built from: what was a test row may be none now.
    """
    if artifact.card["spec"].get("dataset") is None:
        raise NoDataset
    # As it was filled in: what the data is now is compared below.
    spec = read_spec(artifact.card["spec"])
    dataset = load_dataset(spec, data)
    if dataset.sha256 != artifact.card["data"]["sha256"]:
        raise DatasetChanged(artifact.card["data"]["sha256"], dataset.sha256)
    return dataset, split_dataset(dataset, test=spec.split.test, validation=spec.split.validation, by=spec.split.by)


def rows_of_part(
    artifact: Artifact, part: Part, *, max_rows: int, seed: int, data: DataFolder | None = None
) -> ModelInput:
    """Rows `(n_rows, *input_shape)` of a part, in the order of the data set: all of them, or a random sample.

    Raises:
        DatasetChanged: when the data is not what the version was built from: what was a test row may be none now.
    """
    dataset, split = dataset_of(artifact, data)
    rows = {"train": split.train, "validation": split.validation, "test": split.test}[part]
    if len(rows) > max_rows:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=max_rows, replace=False))
    return dataset.inputs[rows]
