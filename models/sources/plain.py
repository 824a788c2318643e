"""Raw data of numbers alone, or of one image, as a data set for training."""

from __future__ import annotations

import numpy as np

from models.datasets import Dataset
from models.facts import DataFacts
from models.raw import RawData
from models.signature import Feature, Signature


def dataset_of(raw: RawData, facts: DataFacts) -> Dataset:
    """The data set of a specification whose features are all numeric and complete, or one image."""
    target = raw.columns[facts.target].values
    columns = {name: column.values for name, column in raw.columns.items() if name in facts.columns}
    if facts.whole_kind == "image":
        (name,) = facts.features
        column = raw.columns[name]
        assert column.scale is not None  # an image has one
        inputs = column.values
        features = (Feature(name, "image", inputs.shape[1:], column.scale),)
        columns = {}
    else:
        inputs = np.column_stack([columns[name] for name in facts.features]).astype(np.float32)
        features = tuple(
            Feature(name, "numeric", (), (float(columns[name].min()), float(columns[name].max())))
            for name in facts.features
        )
    if facts.labels:
        index = {label: i for i, label in enumerate(facts.labels)}
        targets = np.array([index[label] for label in target], dtype=np.int64)
    else:
        targets = target.astype(np.float32)
    signature = Signature(features, facts.task, facts.target, facts.labels, facts.ignored)
    return Dataset(signature, inputs, targets, raw.row_digests, columns)
