"""Categories: a column of 0 and 1 for each of a few, an embedding for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.encoding.values import category_code
from models.errors import InvalidDataset
from models.preprocessing.numbers import ColumnRules
from models.rows import ModelInput
from models.signature import Feature
from models.spec.preprocessing import ConstantSpec, PreprocessingSpec

ops: Any = keras.ops

MOST_COLUMNS = 32
"""Up to so many categories `auto` gives each a column; more are embedded."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the categories of a feature go.

    Attributes:
        learned: codes that the train rows hold, of categories, of unseen ones, of a missing one.
        missing: the code that a missing category counts as.
    """

    learned: tuple[int, ...]
    missing: int

    @property
    def size(self) -> int:
        return max(*self.learned, self.missing) + 1


def encoded_categories(inputs: Any, rows: ModelInput, columns: Sequence[tuple[int, ColumnRules]]) -> list[Any]:
    """Categories as a network learns from them.

    A category that training has seen nothing of (unseen ones, where no train row had one) gives zeros: it says nothing.

    Args:
        inputs: `(None, n_columns)`, codes.
        rows: the train rows.
        columns: the place of each feature among the columns, and its rules.
    """
    one_hot, embedded = [], []
    for place, column in columns:
        found = _places(column.feature, column.rules, rows[:, place])
        (one_hot if _is_one_hot(column.rules, found) else embedded).append((place, column, found))
    parts = [_one_hot([(place, found) for place, _, found in one_hot], inputs)] if one_hot else []
    return parts + [_embedded(inputs, place, column, found) for place, column, found in embedded]


def _is_one_hot(rules: PreprocessingSpec, found: Places) -> bool:
    if rules.categorical in ("one-hot", "embedding"):
        return rules.categorical == "one-hot"
    return len(found.learned) <= MOST_COLUMNS


def _places(feature: Feature, rules: PreprocessingSpec, codes: NDArray[np.float32]) -> Places:
    n_known = feature.buckets or len(feature.vocabulary)
    there = codes[~np.isnan(codes)].astype(np.int64)
    learned = list(range(n_known))
    if feature.unseen and (there == n_known).any():
        learned.append(n_known)
    rule = rules.missing
    if isinstance(rule, ConstantSpec) and isinstance(rule.constant, str):
        code = category_code(feature, rule.constant)
        if code is None:
            raise InvalidDataset(
                f"A missing {feature.name!r} is to become {rule.constant!r}, which is none of its categories in the "
                'train part. Name one of them, or say "indicator": then a missing one is a category of its own.'
            )
        return Places(tuple(learned), code)
    of_its_own = rule == "indicator" or isinstance(rule, ConstantSpec)
    if of_its_own and len(there) < len(codes):
        missing = n_known + 1
        return Places((*learned, missing), missing)
    return Places(tuple(learned), int(np.bincount(there).argmax()) if len(there) else 0)


def _one_hot(columns: list[tuple[int, Places]], inputs: Any) -> Any:
    """All features at once: each column repeated for its codes, and compared with them."""
    repeated = [place for place, found in columns for _ in found.learned]
    wanted = np.array([code for _, found in columns for code in found.learned], np.float32)
    missing = np.array([found.missing for _, found in columns for _ in found.learned], np.float32)
    codes = ops.take(inputs, repeated, axis=1)
    return ops.cast(ops.equal(ops.where(ops.isnan(codes), missing, codes), wanted), "float32")


def _embedded(inputs: Any, place: int, column: ColumnRules, found: Places) -> Any:
    codes = inputs[:, place]
    if column.feature.nullable:
        codes = ops.where(ops.isnan(codes), np.float32(found.missing), codes)
    width = column.rules.embedding or min(50, round(1.6 * len(found.learned) ** 0.56))
    size = max(found.size, column.feature.n_codes)
    vectors = keras.layers.Embedding(size, width, name=f"category_{place}", dtype="float32")(ops.cast(codes, "int32"))
    unlearned = column.feature.unseen and len(column.feature.vocabulary) not in found.learned
    if not unlearned:
        return vectors
    known = ops.cast(ops.not_equal(codes, np.float32(len(column.feature.vocabulary))), "float32")
    return vectors * ops.expand_dims(known, -1)
