"""From raw data to a data set: which row is in which part, what is learned from the train part, every row encoded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets import Dataset, check_every_part, column_bytes, split_rows
from models.encoding.columns import encode_column
from models.encoding.learning import learn_feature
from models.errors import InvalidDataset
from models.facts import DataFacts
from models.raw import RawColumn, RawData
from models.signature import Signature
from models.spec.data import SplitSpec
from models.spec.preprocessing import PreprocessingSpec


def dataset_of(raw: RawData, facts: DataFacts, split: SplitSpec, preprocessing: PreprocessingSpec) -> Dataset:
    """Rows as a network takes them, and the signature that says how: learned from the train part alone.

    Args:
        facts: as the specification's `features` have them; the kinds are those of the raw columns.

    Raises:
        InvalidDataset: when a target is missing or none of the labels, or a feature cannot be learned.
    """
    targets = _targets(raw.columns[facts.target], facts)
    columns = {name: raw.columns[name] for name in facts.columns if name in raw.columns}
    by = None if split.by == "row" else column_bytes(columns[split.by].values)
    parts = split_rows(raw.row_digests, test=split.test, validation=split.validation, by=by)
    # Before anything is learned from a part: that all of its values are missing would be said otherwise.
    check_every_part(parts, raw.row_digests)
    features = tuple(
        learn_feature(name, raw.columns[name], parts.train, preprocessing.of(name)) for name in facts.features
    )
    signature = Signature(features, facts.task, facts.target, facts.labels, facts.ignored)
    encoded = [encode_column(raw.columns[feature.name], feature) for feature in features]
    inputs = encoded[0] if len(encoded) == 1 else np.concatenate(encoded, axis=1)
    table = {name: column.values for name, column in columns.items() if column.kind not in ("image", "series")}
    return Dataset(signature, inputs, targets, raw.row_digests, table)


def _targets(column: RawColumn, facts: DataFacts) -> NDArray[Any]:
    missing = int(column.missing.sum())
    if missing:
        raise InvalidDataset(
            f"The target {facts.target!r} is missing in {missing:,} of {len(column.values):,} rows: expected a value "
            "in each. Leave those rows out."
        )
    if facts.task == "regression":
        return column.values.astype(np.float32)
    places = {label: place for place, label in enumerate(facts.labels)}
    unknown = sorted(set(column.values) - places.keys())
    if unknown:
        raise InvalidDataset(
            f"The target {facts.target!r} holds {unknown[0]!r}: expected one of {', '.join(map(repr, facts.labels))}."
        )
    return np.array([places[label] for label in column.values], dtype=np.int64)
