"""From the numbers that a network takes back to what a person would call them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding.dates import written_date
from models.signature import FIRST_WORD, PADDING, Feature, Signature

OTHER = "(other)"
"""A category that has no code of its own, or a word: what was written is not known from its code."""

Given = Mapping[str, str]
"""What one row said in strings, by feature: what their codes may not give back as it was written."""


def given_strings(rows: Sequence[Any], signature: Signature) -> tuple[dict[str, str], ...]:
    """Per row of a request that has been decoded, its strings as they were sent; none where no feature has any."""
    if all(feature.kind in ("numeric", "boolean", "image", "series") for feature in signature.features):
        return ()
    names = signature.feature_names
    return tuple(
        {name: value for name, value in _by_name(row, names).items() if type(value) is str and name in names}
        for row in rows
    )


def named_value(feature: Feature, codes: NDArray[np.float32]) -> Any:
    """The value of a feature, from its columns `(width,)`: a number, a boolean, a category, a date, words, or None."""
    code = codes[0]
    match feature.kind:
        case "text":
            return " ".join(words_in(feature, codes))
        case _ if math.isnan(code):
            return None
        case "boolean":
            # Between the two where it is the mean of several.
            return bool(code) if code in (0, 1) else code
        case "categorical":
            return category_name(feature, int(code))
        case "date":
            return written_date(float(code))
        case _:
            return code


def category_name(feature: Feature, code: int) -> str:
    """The category of a code; a bucket by its number."""
    if feature.buckets:
        return f"(bucket {code})"
    return feature.vocabulary[code] if code < len(feature.vocabulary) else OTHER


def words_in(feature: Feature, codes: NDArray[np.float32]) -> list[str]:
    """The words of a text `(width,)` as far as their codes tell them."""
    words = [int(code) - FIRST_WORD for code in codes if code != PADDING]
    return [feature.vocabulary[word] if word >= 0 else OTHER for word in words]


def _by_name(row: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    return dict(zip(names, row, strict=True)) if isinstance(row, list) else {names[0]: row}
