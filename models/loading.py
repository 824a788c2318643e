"""The data of a specification: loaded, described for the card, and compared with that of the version before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.builtins import facts_of_builtin, read_builtin
from models.changes import Change, Predecessor
from models.datasets import Dataset, Split
from models.raw import RawData
from models.sources.folder import DataFolder
from models.sources.profile import Profile
from models.sources.report import describe_data, describe_profile, shared_rows
from models.spec import TrainingSpec
from models.tables import dataset_of


@dataclass(frozen=True, slots=True)
class LoadedData:
    """A data set, the raw columns that it was made from, and the profile of their file (None for built-in data)."""

    dataset: Dataset
    raw: RawData
    profile: Profile | None


def load_data(spec: TrainingSpec, data: DataFolder | None = None) -> LoadedData:
    """The data that a filled-in specification names, without its ignored columns.

    Args:
        data: where files are found; built-in data needs none.

    Raises:
        InvalidSpec: when the file is not there any more, or does not fit.
        InvalidDataset: when a feature cannot be learned from it.
    """
    if spec.dataset.builtin is not None:
        facts, profile = facts_of_builtin(spec.dataset.builtin).with_features(spec.features), None
        raw = read_builtin(spec.dataset.builtin, facts.kinds)
    else:
        assert data is not None  # parse_spec has found the file there
        raw, facts = data.read(spec)
        profile = data.profile(spec.dataset)
    return LoadedData(dataset_of(raw, facts, spec.split, spec.preprocessing), raw, profile)


def load_dataset(spec: TrainingSpec, data: DataFolder | None = None) -> Dataset:
    """The data set alone; see `load_data`."""
    return load_data(spec, data).dataset


def describe_loaded(
    spec: TrainingSpec, loaded: LoadedData, split: Split, changes: Sequence[Change], before: Predecessor | None
) -> dict[str, Any]:
    """The `data` of a card: where it comes from, its digests and parts, the report, what changed since the champion."""
    dataset, raw = loaded.dataset, loaded.raw
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    judged = {name: column for name, column in raw.columns.items() if name not in dataset.signature.ignored}
    return {
        "dataset": spec.dataset.model_dump(),
        "sha256": dataset.sha256,
        "file_sha256": raw.digest,
        "rows": {name: len(indices) for name, indices in parts.items()},
        "report": {
            **(describe_profile(loaded.profile) if loaded.profile else {}),
            "by_target": describe_data(replace(raw, columns=judged), dataset.signature.target, seed=spec.training.seed),
            "rows_like_train_rows": shared_rows(dataset.inputs, parts),
        },
        "changes": {
            "champion": before.version if before else None,
            "changes": [change.to_json() for change in changes],
        },
    }
