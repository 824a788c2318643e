"""Numbers: missing ones filled in, outliers clipped, all on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.signature import Feature
from models.spec.preprocessing import ConstantSpec, PreprocessingSpec, Scaling, clip_quantiles

ops: Any = keras.ops
_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """A feature, and the preprocessing that holds for it."""

    feature: Feature
    rules: PreprocessingSpec


def encoded_numbers(values: Any, rows: NDArray[np.float32], columns: Sequence[ColumnRules]) -> list[Any]:
    """Numbers as a network learns from them, and beside them where they were missing.

    Args:
        values: a tensor of float32, `(None, n)` or, of a series, `(None, steps, n)`.
        rows: the train rows, of the same axes.
        columns: n of them.

    Returns:
        Tensors to be put side by side: one for each scaling in use, and a 0 or 1 for each column that says where it is
        missing.
    """
    table = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
    indicators = []
    if any(column.feature.nullable for column in columns):
        missing = ops.isnan(values)
        indicated = [
            place
            for place, column in enumerate(columns)
            if column.rules.missing == "indicator" and np.isnan(table[:, place]).any()
        ]
        if indicated:
            indicators = [ops.cast(ops.take(missing, indicated, axis=-1), "float32")]
        fills = np.array([fill_of(table[:, place], column) for place, column in enumerate(columns)], np.float32)
        values = ops.where(missing, fills, values)
        table = np.where(np.isnan(table), fills, table)
    bounds = [_bounds(table[:, place], column) for place, column in enumerate(columns)]
    if any(bound is not None for bound in bounds):
        lows, highs = np.array([bound or (_FLOAT32.min, _FLOAT32.max) for bound in bounds], np.float32).T
        values = ops.minimum(ops.maximum(values, lows), highs)
        table = np.clip(table, lows, highs)
    return [*_scaled(values, table, columns), *indicators]


def fill_of(values: NDArray[np.float64], column: ColumnRules) -> float:
    """What a missing value becomes, from those of the train rows; 0 where none is there."""
    there = values[~np.isnan(values)]
    rule = column.rules.missing
    if isinstance(rule, ConstantSpec) and not isinstance(rule.constant, str):
        return float(rule.constant)
    if len(there) == 0:
        return 0.0
    if rule == "mean":
        return float(there.mean())
    if rule == "most-frequent" or column.feature.kind == "boolean":
        found, counts = np.unique(there, return_counts=True)
        return float(found[counts.argmax()])
    return float(np.median(there))


def standardized(values: Any, table: NDArray[np.float64], name: str) -> Any:
    """Zero mean and unit variance over the train rows, `(n_rows, n)`."""
    # adapt(), not constants: a Normalization layer given constants does not export to ONNX.
    normalization = keras.layers.Normalization(axis=-1, name=name, dtype="float32")
    normalization.adapt(table.astype(np.float32))
    return normalization(values)


def _bounds(values: NDArray[np.float64], column: ColumnRules) -> tuple[float, float] | None:
    quantiles = clip_quantiles(column.rules.outliers)
    if quantiles is None or column.feature.kind == "boolean":
        return None
    low, high = np.quantile(values, quantiles)
    return float(low), float(high)


def _scaled(values: Any, table: NDArray[np.float64], columns: Sequence[ColumnRules]) -> list[Any]:
    scalings: dict[Scaling, list[int]] = {}
    for place, column in enumerate(columns):
        scaling = "none" if column.feature.kind == "boolean" else column.rules.scaling
        scalings.setdefault(scaling, []).append(place)
    parts = []
    for scaling, places in scalings.items():
        part = values if len(places) == len(columns) else ops.take(values, places, axis=-1)
        if scaling == "standard":
            part = standardized(part, table[:, places], "standardize")
        elif scaling != "none":
            centres, spans = _centres_and_spans(table[:, places], scaling)
            part = (part - centres) / spans
        parts.append(part)
    return parts


def _centres_and_spans(table: NDArray[np.float64], scaling: Scaling) -> tuple[NDArray[Any], NDArray[Any]]:
    """What becomes 0, and how far from it 1 is: from smallest to largest, or the middle half around the median."""
    if scaling == "min-max":
        centres, spans = table.min(axis=0), table.max(axis=0) - table.min(axis=0)
    else:
        low, centres, high = np.quantile(table, (0.25, 0.5, 0.75), axis=0)
        spans = high - low
    return centres.astype(np.float32), np.where(spans > 0, spans, 1.0).astype(np.float32)
