"""Turns the rows of a request into one array, or names every fault of every row at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import Fault, InvalidRows, pointer
from models.signature import Feature, Signature

ModelInput = NDArray[np.float32]
"""What a network takes: `(n_rows, n_features)` for columns, `(n_rows, height, width, channels)` for an image."""

MAX_FAULTS = 1000
"""Faults that are looked for: a request may hold millions, and each costs memory and time."""

_NUMBERS = {int, float}
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def decode_rows(rows: Sequence[Any], signature: Signature) -> ModelInput:
    """Decodes JSON rows of a request.

    Args:
        rows: per row a mapping from feature name to value, a list in signature order (columns), or the bare nested
            list of an image.
        signature: the contract of the version that will take them.

    Returns:
        A float32 array of shape `(n_rows, *signature.input_shape)`.

    Raises:
        InvalidRows: with one `Fault` for each value that does not fit.
    """
    decode = _decode_image_row if signature.image else _decode_column_row
    array = np.empty((len(rows), *signature.input_shape), dtype=np.float32)
    # The fast way takes rows without a fault; only when one fails are all rows searched for every fault.
    # A number too large for float32 becomes infinite here and is refused below.
    with np.errstate(over="ignore"):
        clean = all(decode(row, signature, array[i]) for i, row in enumerate(rows))
    if not clean or not np.isfinite(array).all() or not _within_range(array, signature):
        faults = (fault for i, row in enumerate(rows) for fault in _faults_of_row(row, i, signature))
        raise InvalidRows(list(islice(faults, MAX_FAULTS)))
    return array


def check_array(array: NDArray[Any], signature: Signature) -> ModelInput:
    """Checks an array that arrived whole (an .npy body, a decoded picture), shape `(n_rows, *input_shape)`."""
    if array.dtype.kind not in "iuf" or array.shape[1:] != signature.input_shape:
        expected = f"numbers of shape (rows, {', '.join(map(str, signature.input_shape))})"
        raise InvalidRows([Fault("#/inputs", expected, f"{array.dtype} of shape {array.shape}")])
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(converted).all() or not _within_range(converted, signature):
        return decode_rows(array.tolist(), signature)
    return converted


def _decode_column_row(row: Any, signature: Signature, out: ModelInput) -> bool:
    names = signature.feature_names
    if type(row) is dict:
        try:
            values = [row[name] for name in names]
        except KeyError:
            return False
        if len(row) != len(names) and not row.keys() <= {*names, signature.target, *signature.ignored}:
            return False
    elif type(row) is list and len(row) == len(names):
        values = row
    else:
        return False
    if not set(map(type, values)) <= _NUMBERS:
        return False
    try:
        out[:] = values
    except OverflowError:
        return False
    return True


def _decode_image_row(row: Any, signature: Signature, out: ModelInput) -> bool:
    feature = signature.features[0]
    if type(row) is dict:
        if feature.name not in row or not row.keys() <= {feature.name, signature.target, *signature.ignored}:
            return False
        row = row[feature.name]
    height, width, channels = feature.shape
    if type(row) is not list or len(row) != height:
        return False
    if not all(type(line) is list and len(line) == width for line in row):
        return False
    values = list(chain.from_iterable(row))
    if type(values[0]) is list:
        if not all(type(pixel) is list and len(pixel) == channels for pixel in values):
            return False
        values = list(chain.from_iterable(values))
    elif channels != 1:
        return False
    if not set(map(type, values)) <= _NUMBERS:
        return False
    try:
        out.reshape(-1)[:] = values
    except OverflowError:
        return False
    return True


def _within_range(array: ModelInput, signature: Signature) -> bool:
    if signature.image is None or array.size == 0:
        return True
    low, high = signature.image.value_range
    return bool(array.min() >= low and array.max() <= high)


def _faults_of_row(row: Any, index: int, signature: Signature) -> list[Fault]:
    at = ("inputs", index)
    image = signature.image
    if isinstance(row, Mapping):
        faults = []
        for feature in signature.features:
            if feature.name not in row:
                faults.append(Fault(pointer(*at, feature.name), _expectation(feature), "nothing", "missing feature"))
            else:
                faults.extend(_faults_of_value(row[feature.name], feature, (*at, feature.name)))
        known = {*signature.feature_names, signature.target, *signature.ignored}
        unknown = (
            Fault(pointer(*at, name), "no such feature", describe(value), "not in the signature")
            for name, value in row.items()
            if name not in known
        )
        faults.extend(islice(unknown, MAX_FAULTS))
        return faults
    if image is not None:
        return _faults_of_value(row, image, at)
    if isinstance(row, list):
        if len(row) != len(signature.features):
            return [Fault(pointer(*at), f"{len(signature.features)} values in signature order", f"{len(row)} values")]
        return [
            fault
            for position, (feature, value) in enumerate(zip(signature.features, row, strict=True))
            for fault in _faults_of_value(value, feature, (*at, position))
        ]
    return [Fault(pointer(*at), "an object by feature name, or a list in signature order", describe(row))]


def _faults_of_value(value: Any, feature: Feature, at: tuple[str | int, ...]) -> list[Fault]:
    if feature.kind == "numeric":
        return [] if _is_float32(value) else [Fault(pointer(*at), _expectation(feature), describe(value))]
    height, width, channels = feature.shape
    if not isinstance(value, list) or len(value) != height:
        return [Fault(pointer(*at), _expectation(feature), describe(value))]
    faults: list[Fault] = []
    low, high = feature.value_range
    # Pixels are all bare numbers or all lists of channels, as the first one is.
    bare = not (isinstance(value[0], list) and value[0] and isinstance(value[0][0], list))
    for y, line in enumerate(value):
        if not isinstance(line, list) or len(line) != width:
            faults.append(Fault(pointer(*at, y), f"a line of {width} pixels", describe(line)))
            continue
        for x, pixel in enumerate(line):
            parts = pixel if isinstance(pixel, list) else [pixel]
            if len(parts) != channels or isinstance(pixel, list) == bare:
                expected = "a number" if bare and channels == 1 else f"a list of {channels} channels"
                faults.append(Fault(pointer(*at, y, x), expected, describe(pixel)))
                continue
            for c, number in enumerate(parts):
                place = (*at, y, x, c) if isinstance(pixel, list) else (*at, y, x)
                if not _is_float32(number) or not low <= number <= high:
                    faults.append(Fault(pointer(*place), f"a number from {low:g} to {high:g}", describe(number)))
    return faults


def _is_float32(value: Any) -> bool:
    return type(value) in _NUMBERS and abs(value) <= _FLOAT32_MAX


def _expectation(feature: Feature) -> str:
    if feature.kind == "numeric":
        return "a finite number"
    low, high = feature.value_range
    return f"an image of {' x '.join(map(str, feature.shape))} numbers from {low:g} to {high:g}"


def describe(value: Any) -> str:
    """A received value in few words, safe to send back: its JSON type, and the value itself when short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"[:60]
    if isinstance(value, str):
        return f"the string {value[:40]!r}" + ("..." if len(value) > 40 else "")
    if isinstance(value, Mapping):
        return f"an object with {len(value)} keys"
    if not isinstance(value, list):
        return f"a {type(value).__name__}"
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return f"a list of {' x '.join(map(str, shape))} values"
