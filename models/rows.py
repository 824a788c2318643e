"""Turns the rows of a request into one array, or names every fault of every row at once."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding.faults import MAX_FAULTS, faults_of_row
from models.encoding.values import NUMBERS, encoder_of
from models.errors import Fault, InvalidRows
from models.errors import describe as describe
from models.signature import Signature

ModelInput = NDArray[np.float32]
"""What a network takes: `(n_rows, n_columns)` for columns and texts, `(n_rows, height, width, channels)` for an image,
`(n_rows, steps, channels)` for a series. A missing value is NaN."""

_FEW = 64
"""Values that Python adds up faster than NumPy."""
_NUMBERS_AND_NULL = {*NUMBERS, type(None)}


def decode_rows(rows: Sequence[Any], signature: Signature) -> ModelInput:
    """Decodes JSON rows of a request.

    Args:
        rows: per row a mapping from feature name to value, a list in signature order (columns), or the bare value of
            the one image, series or text.
        signature: the contract of the version that will take them.

    Returns:
        A float32 array of shape `(n_rows, *signature.input_shape)`.

    Raises:
        InvalidRows: with one `Fault` for each value that does not fit.
    """
    # The fast way takes rows without a fault; only when one fails are all rows searched for every fault.
    numbers = _numbers(rows, signature)
    if numbers is not None:
        decoded = np.frombuffer(numbers, np.float32).reshape(len(rows), *signature.input_shape)
        if _is_finite(decoded, signature) and _within_range(decoded, signature):
            return decoded
    faults = (fault for i, row in enumerate(rows) for fault in faults_of_row(row, i, signature))
    raise InvalidRows(list(islice(faults, MAX_FAULTS)))


def check_array(array: NDArray[Any], signature: Signature) -> ModelInput:
    """Checks an array that arrived whole (an .npy body, a decoded picture), shape `(n_rows, *input_shape)`.

    Only numbers can arrive so: a version of categories, dates, texts or booleans takes rows of JSON. NaN is a missing
    value, where the signature says nullable.
    """
    if not signature.fits_one_array:
        expected = "rows of JSON: this version takes more than numbers"
        raise InvalidRows([Fault("#/inputs", expected, f"{array.dtype} of shape {array.shape}")])
    if array.dtype.kind not in "iuf" or array.shape[1:] != signature.input_shape:
        expected = f"numbers of shape (rows, {', '.join(map(str, signature.input_shape))})"
        raise InvalidRows([Fault("#/inputs", expected, f"{array.dtype} of shape {array.shape}")])
    with np.errstate(over="ignore", invalid="ignore"):
        converted = np.ascontiguousarray(array, dtype=np.float32)
    if not _is_finite(converted, signature) or not _within_range(converted, signature):
        nulls = np.isnan(converted) & _nullable(signature)
        values = array.astype(object)
        values[nulls] = None
        return decode_rows(values.tolist(), signature)
    return converted


def _numbers(rows: Sequence[Any], signature: Signature) -> array[float] | None:
    """The numbers of all rows, one row after the other; None where a row has a fault.

    Python's arrays take a few numbers faster than NumPy's. One that is too large for float32 becomes infinite.
    """
    decode, numbers = _decoder(signature), array("f")
    try:
        for row in rows:
            values = decode(row)
            if values is None:
                return None
            numbers.fromlist(values)
    except OverflowError:
        return None
    return numbers


Decode = Callable[[Any], list[Any] | None]
"""The numbers of a row, NaN where one is missing; None where it has a fault."""


def _decoder(signature: Signature) -> Decode:
    if signature.image is not None:
        return lambda row: _decode_image_row(row, signature)
    if signature.series is not None:
        return lambda row: _decode_series_row(row, signature)
    if signature.all_numeric:
        return lambda row: _decode_numeric_row(row, signature)
    encoders = [encoder_of(feature) for feature in signature.features]

    def decode(row: Any) -> list[float] | None:
        values = _values_of(row, signature)
        if values is None:
            return None
        codes: list[float] = []
        for encode, value in zip(encoders, values, strict=True):
            encoded = encode(value)
            if encoded is None:
                return None
            codes += encoded
        return codes

    return decode


def _values_of(row: Any, signature: Signature) -> list[Any] | None:
    """The values of a row in signature order; None where they are not all there, or others are."""
    names = signature.feature_names
    if type(row) is dict:
        try:
            values = [row[name] for name in names]
        except KeyError:
            return None
        if len(row) != len(names) and not row.keys() <= {*names, signature.target, *signature.ignored}:
            return None
        return values
    if signature.kind != "columns":
        return [row]
    return row if type(row) is list and len(row) == len(names) else None


def _decode_numeric_row(row: Any, signature: Signature) -> list[Any] | None:
    values = _values_of(row, signature)
    return values if values is not None and NUMBERS.issuperset(map(type, values)) else None


def _decode_image_row(row: Any, signature: Signature) -> list[Any] | None:
    values = _values_of(row, signature)
    if values is None:
        return None
    (row,) = values
    height, width, channels = signature.features[0].shape
    if type(row) is not list or len(row) != height:
        return None
    for line in row:
        if type(line) is not list or len(line) != width:
            return None
    values = list(chain.from_iterable(row))
    if type(values[0]) is list:
        if not all(type(pixel) is list and len(pixel) == channels for pixel in values):
            return None
        values = list(chain.from_iterable(values))
    elif channels != 1:
        return None
    return values if NUMBERS.issuperset(map(type, values)) else None


def _decode_series_row(row: Any, signature: Signature) -> list[Any] | None:
    feature = signature.features[0]
    values = _values_of(row, signature)
    if values is None:
        return None
    (row,) = values
    steps, channels = feature.shape
    if type(row) is not list or len(row) != steps:
        return None
    if type(row[0]) is list:
        if not all(type(step) is list and len(step) == channels for step in row):
            return None
        row = list(chain.from_iterable(row))
    elif channels != 1:
        return None
    if not feature.nullable:
        return row if NUMBERS.issuperset(map(type, row)) else None
    if not _NUMBERS_AND_NULL.issuperset(map(type, row)) or any(value != value for value in row):
        return None  # a NaN that was not written as null is one of the faults
    return [math.nan if value is None else value for value in row]


def _is_finite(array: ModelInput, signature: Signature) -> bool:
    """Whether every value is a finite number, or missing where it may be."""
    # The sum is finite only where every value is, and takes a third of the time to look at; one that is not may have
    # overflown.
    if array.size <= _FEW:
        total = sum(array.ravel().tolist())
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add.reduce(array, axis=None)
    if math.isfinite(total):
        return True
    finite = np.isfinite(array)
    return bool(finite.all() or (finite | (np.isnan(array) & _nullable(signature))).all())


def _nullable(signature: Signature) -> NDArray[np.bool_]:
    """Whether each value of a row may be missing, to be broadcast to `input_shape`."""
    if signature.kind in ("image", "series"):
        return np.array(signature.features[0].nullable)
    return np.repeat(
        [feature.nullable for feature in signature.features], [feature.width for feature in signature.features]
    )


def _within_range(array: ModelInput, signature: Signature) -> bool:
    if signature.image is None or array.size == 0:
        return True
    low, high = signature.image.value_range
    if array.size <= _FEW:
        values = array.ravel().tolist()
        return low <= min(values) and max(values) <= high
    return bool(array.min() >= low and array.max() <= high)
