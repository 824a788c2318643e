"""One JSON value of a feature as the numbers that a network takes, and what is expected of it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from models.encoding.dates import EXAMPLE, days_of
from models.encoding.words import padded, word_codes
from models.signature import Feature

Encode = Callable[[Any], list[float] | None]
"""From a JSON value to the numbers in its feature's columns; None for a value that does not fit."""

NUMBERS = {int, float}
FLOAT32_MAX = float(np.finfo(np.float32).max)
NAMED_CATEGORIES = 10


def encoder_of(feature: Feature) -> Encode:
    """How the values of a column or a text are encoded."""
    encode = partial(_ENCODERS[feature.kind], feature)
    if not feature.nullable:
        return encode
    missing = [0.0] * feature.width if feature.kind == "text" else [math.nan]
    return lambda value: missing if value is None else encode(value)


def is_float32(value: Any) -> bool:
    """Whether a value is a number that float32 can hold; NaN and infinity are none."""
    return type(value) in NUMBERS and abs(value) <= FLOAT32_MAX


def category_code(feature: Feature, category: str) -> int | None:
    """The code of a category; None for one that the feature has no place for."""
    if feature.buckets:
        return zlib.crc32(category.encode("utf-8", "surrogatepass")) % feature.buckets
    code = feature.codes.get(category)
    return len(feature.vocabulary) if code is None and feature.unseen else code


def expectation(feature: Feature) -> str:
    """What values a feature takes, in words."""
    return _expectation(feature) + (" or null" if feature.nullable and feature.kind != "series" else "")


def _expectation(feature: Feature) -> str:
    low, high = feature.value_range
    match feature.kind:
        case "numeric":
            return "a finite number"
        case "boolean":
            return "true or false"
        case "categorical" if feature.buckets or feature.unseen:
            return "a string"
        case "categorical":
            named = ", ".join(map(repr, feature.vocabulary[:NAMED_CATEGORIES]))
            more = len(feature.vocabulary) - NAMED_CATEGORIES
            return f"one of {named}" + (f" and {more} more" if more > 0 else "")
        case "date":
            return f"a date in ISO 8601, such as {EXAMPLE!r} or '{EXAMPLE}T09:30:00Z'"
        case "text":
            return "a string"
        case "image":
            return f"an image of {' x '.join(map(str, feature.shape))} numbers from {low:g} to {high:g}"
        case "series":
            steps, channels = feature.shape
            return f"a series of {steps} steps x {channels} channels of numbers" + (
                " or nulls" if feature.nullable else ""
            )


def _encode_number(_feature: Feature, value: Any) -> list[float] | None:
    return [value] if is_float32(value) else None


def _encode_boolean(_feature: Feature, value: Any) -> list[float] | None:
    return [float(value)] if type(value) is bool else None


def _encode_category(feature: Feature, value: Any) -> list[float] | None:
    code = category_code(feature, value) if type(value) is str else None
    return None if code is None else [code]


def _encode_date(_feature: Feature, value: Any) -> list[float] | None:
    days = days_of(value) if type(value) is str else None
    return None if days is None else [days]


def _encode_text(feature: Feature, value: Any) -> list[float] | None:
    if type(value) is not str:
        return None
    return [float(code) for code in padded(word_codes(value, feature), feature.shape[0])]


_ENCODERS: dict[str, Callable[[Feature, Any], list[float] | None]] = {
    "numeric": _encode_number,
    "boolean": _encode_boolean,
    "categorical": _encode_category,
    "date": _encode_date,
    "text": _encode_text,
}
