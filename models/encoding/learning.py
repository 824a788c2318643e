"""What a feature of a version is, learned from the rows it trains on: its vocabulary, its range, what may be missing."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding.words import common_words, words_of
from models.errors import InvalidDataset
from models.raw import RawColumn
from models.signature import FIRST_WORD, Feature
from models.spec.preprocessing import PreprocessingSpec

LEAST_TEXTS = 2
"""A word that stands in one text alone teaches nothing about others."""


def learn_feature(name: str, column: RawColumn, train: NDArray[np.int64], rules: PreprocessingSpec) -> Feature:
    """A feature as it is learned from the train rows.

    It may be missing where it is in any row of the data, or where the specification says what becomes of a missing one.

    Args:
        column: all its rows.
        rules: those that hold for this feature.

    Raises:
        InvalidDataset: when the train rows have no value, or no category often enough.
    """
    values, there = column.values[train], ~column.missing[train]
    nullable = _may_be_missing(column, name, rules)
    if column.kind == "image":
        return Feature(name, "image", values.shape[1:], column.scale or _spanned(name, values))
    if column.kind == "series":
        return Feature(name, "series", values.shape[1:], _spanned(name, values), nullable=nullable)
    if not there.any():
        raise InvalidDataset(
            f"Every value of {name!r} in the train part is missing: expected some. Give its values, or leave it out "
            f'with "features": {{"{name}": "ignore"}}.'
        )
    if column.kind == "text":
        words = common_words(values[there], most=rules.text.words, least_rows=LEAST_TEXTS)
        span = (0.0, float(FIRST_WORD + len(words) - 1))
        # No more places than the longest text needs.
        length = min(rules.text.length, max(1, *(len(words_of(text)) for text in values[there])))
        return Feature(name, "text", (length,), span, nullable=nullable, vocabulary=words)
    if column.kind == "categorical":
        return _learn_categories(name, column, values[there], nullable, rules)
    if column.kind == "date":
        return Feature(name, "date", (), _spanned(name, days_since_1970(values)), nullable=nullable)
    return Feature(name, column.kind, (), _spanned(name, values), nullable=nullable)


def days_since_1970(values: NDArray[Any]) -> NDArray[np.float64]:
    """`datetime64[ms]` as days; NaT as NaN."""
    days = values.astype("datetime64[ms]").astype(np.int64) / 86_400_000
    return np.where(np.isnat(values), np.nan, days)


def _learn_categories(
    name: str, column: RawColumn, seen: NDArray[Any], nullable: bool, rules: PreprocessingSpec
) -> Feature:
    if rules.categorical == "hashing":
        last = float(rules.hash_buckets - 1)
        return Feature(name, "categorical", (), (0.0, last), nullable=nullable, buckets=rules.hash_buckets)
    counts = Counter(seen)
    frequent = [category for category, count in counts.items() if count >= rules.rare]
    kept = sorted(frequent, key=lambda category: (-counts[category], category))[: rules.max_categories]
    if rules.unseen == "refuse":
        # Nothing is folded into a place that is not there.
        kept = list(counts)
    if not kept:
        raise InvalidDataset(
            f"{name!r} has {len(counts):,} categories in {len(seen):,} train rows, none in {rules.rare} or more. Read "
            f'it as "text", hash it ("preprocessing": {{"features": {{"{name}": {{"categorical": "hashing"}}}}}}), '
            'lower "preprocessing.rare", or ignore it.'
        )
    everywhere = set(column.values) - {None}
    folded = everywhere - set(kept)
    if rules.unseen == "refuse" and folded:
        raise InvalidDataset(
            f"{min(folded)!r} of {name!r} stands in no train row, and unseen categories are refused. Give it a place "
            'with "unseen": "own-place", or give more rows of it.'
        )
    unseen = rules.unseen == "own-place" or bool(folded)
    n_codes = len(kept) + unseen
    return Feature(
        name,
        "categorical",
        (),
        (0.0, float(n_codes - 1)),
        nullable=nullable,
        vocabulary=tuple(sorted(kept)),
        unseen=unseen,
    )


def _may_be_missing(column: RawColumn, name: str, rules: PreprocessingSpec) -> bool:
    if column.kind == "image":
        return False
    own = rules.features.get(name)
    if own is not None and own.missing is not None:
        return True
    missing = np.isnan(column.values) if column.kind == "series" else column.missing
    return bool(missing.any())


def _spanned(name: str, values: NDArray[Any]) -> tuple[float, float]:
    """The smallest and the largest value that is there."""
    if np.isnan(values).all():
        raise InvalidDataset(f"Every value of {name!r} in the train part is missing: expected some.")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidDataset(f"{name!r} holds infinite values: expected finite numbers, or missing ones.")
    return low, high
