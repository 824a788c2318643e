"""Whole raw columns as the numbers that a network takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding.learning import days_since_1970
from models.encoding.values import category_code
from models.encoding.words import padded, word_codes
from models.errors import InvalidDataset
from models.raw import RawColumn
from models.signature import Feature


def encode_column(column: RawColumn, feature: Feature) -> NDArray[np.float32]:
    """`(n_rows, width)` of a column or a text, `(n_rows, *shape)` of an image or a series; NaN where missing.

    Raises:
        InvalidDataset: when it holds a category that the feature has no place for.
    """
    match feature.kind:
        case "image" | "series":
            return np.ascontiguousarray(column.values, dtype=np.float32)
        case "text":
            codes = [padded([] if text is None else word_codes(text, feature), feature.width) for text in column.values]
            return np.array(codes, dtype=np.float32).reshape(-1, feature.width)
        case "categorical":
            numbers = _category_codes(column.values, feature)
        case "date":
            numbers = days_since_1970(column.values)
        case _:
            numbers = column.values
    return numbers.astype(np.float32)[:, np.newaxis]


def _category_codes(values: NDArray[Any], feature: Feature) -> NDArray[np.float64]:
    code_of: dict[str | None, float] = {None: math.nan}
    for category in set(values) - {None}:
        code = category_code(feature, category)
        if code is None:
            raise InvalidDataset(
                f"{feature.name!r} has no place for the category {category!r}: it was seen in no train row."
            )
        code_of[category] = code
    return np.array([code_of[category] for category in values], dtype=np.float64)
