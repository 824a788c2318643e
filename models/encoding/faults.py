"""Every fault of the rows of a request, by JSON pointer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from models.encoding.values import encoder_of, expectation, is_float32
from models.errors import Fault, describe, pointer
from models.signature import Feature, Signature

MAX_FAULTS = 1000
"""Faults that are looked for: a request may hold millions, and each costs memory and time."""

_BY_NAME_OR_PLACE = "an object by feature name, or a list in signature order"
Place = tuple[str | int, ...]


def faults_of_row(row: Any, index: int, signature: Signature) -> list[Fault]:
    """The faults of one row of `#/inputs`."""
    at = ("inputs", index)
    if isinstance(row, Mapping):
        return _faults_of_mapping(row, signature, at)
    if signature.kind != "columns":
        return _faults_of_value(row, signature.features[0], at)
    if not isinstance(row, list):
        return [Fault(pointer(*at), _BY_NAME_OR_PLACE, describe(row))]
    if len(row) != len(signature.features):
        return [Fault(pointer(*at), f"{len(signature.features)} values in signature order", f"{len(row)} values")]
    return [
        fault
        for position, (feature, value) in enumerate(zip(signature.features, row, strict=True))
        for fault in _faults_of_value(value, feature, (*at, position))
    ]


def _faults_of_mapping(row: Mapping[str, Any], signature: Signature, at: Place) -> list[Fault]:
    faults = []
    for feature in signature.features:
        if feature.name not in row:
            faults.append(Fault(pointer(*at, feature.name), expectation(feature), "nothing", "missing feature"))
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


def _faults_of_value(value: Any, feature: Feature, at: Place) -> list[Fault]:
    if feature.kind == "image":
        return list(_faults_of_image(value, feature, at))
    if feature.kind == "series":
        return list(_faults_of_series(value, feature, at))
    if encoder_of(feature)(value) is not None:
        return []
    detail = "a category that was not seen in training" if feature.kind == "categorical" and type(value) is str else ""
    return [Fault(pointer(*at), expectation(feature), describe(value), detail)]


def _faults_of_image(value: Any, feature: Feature, at: Place) -> Iterator[Fault]:
    height, width, channels = feature.shape
    if not isinstance(value, list) or len(value) != height:
        yield Fault(pointer(*at), expectation(feature), describe(value))
        return
    low, high = feature.value_range
    # Pixels are all bare numbers or all lists of channels, as the first one is.
    bare = not (isinstance(value[0], list) and value[0] and isinstance(value[0][0], list))
    for y, line in enumerate(value):
        if not isinstance(line, list) or len(line) != width:
            yield Fault(pointer(*at, y), f"a line of {width} pixels", describe(line))
            continue
        for x, pixel in enumerate(line):
            parts = pixel if isinstance(pixel, list) else [pixel]
            if len(parts) != channels or isinstance(pixel, list) == bare:
                expected = "a number" if bare and channels == 1 else f"a list of {channels} channels"
                yield Fault(pointer(*at, y, x), expected, describe(pixel))
                continue
            for c, number in enumerate(parts):
                place = (*at, y, x, c) if isinstance(pixel, list) else (*at, y, x)
                if not is_float32(number) or not low <= number <= high:
                    yield Fault(pointer(*place), f"a number from {low:g} to {high:g}", describe(number))


def _faults_of_series(value: Any, feature: Feature, at: Place) -> Iterator[Fault]:
    steps, channels = feature.shape
    if not isinstance(value, list) or len(value) != steps:
        yield Fault(pointer(*at), expectation(feature), describe(value))
        return
    bare = not isinstance(value[0], list)
    expected = "a finite number or null" if feature.nullable else "a finite number"
    for step, line in enumerate(value):
        values = line if isinstance(line, list) else [line]
        if len(values) != channels or isinstance(line, list) == bare:
            wanted = "a number" if bare and channels == 1 else f"a list of {channels} channels"
            yield Fault(pointer(*at, step), wanted, describe(line))
            continue
        for channel, number in enumerate(values):
            if not is_float32(number) and not (number is None and feature.nullable):
                place = (*at, step) if bare else (*at, step, channel)
                yield Fault(pointer(*place), expected, describe(number))
