"""A global explanation in words and arrays: what the attributions of many rows say together."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.summary import Importance, dependence, importance
from models.encoding.reading import named_value
from models.rows import ModelInput
from models.signature import Feature, Signature
from service.serving.players import identities, series_players

GROUPS = 10
"""Groups of rows with values close together, for which the mean attribution is given."""


@dataclass(frozen=True)
class Attributed:
    """The attributions of many rows, one line for each row and each of its targets.

    Attributes:
        rows: `(n_rows, *input_shape)`; None where inputs are not kept.
        row_of, target_of: `(n_lines,)`, the index of the row and of the target of each line.
        attributions, standard_errors: `(n_lines, n_players)`.
        values, base_values: `(n_lines,)`, of the explained output.
    """

    rows: ModelInput | None
    row_of: NDArray[np.intp]
    target_of: NDArray[np.intp]
    attributions: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    values: NDArray[np.float64]
    base_values: NDArray[np.float64]

    @staticmethod
    def of(rows: ModelInput, targets: tuple[tuple[int, ...], ...], estimates: list[Estimate]) -> Attributed:
        return Attributed(
            rows=rows,
            row_of=np.repeat(np.arange(len(rows)), [len(chosen) for chosen in targets]),
            target_of=np.array([target for chosen in targets for target in chosen], dtype=np.intp),
            attributions=np.concatenate([estimate.attributions.T for estimate in estimates]),
            standard_errors=np.concatenate([estimate.standard_errors.T for estimate in estimates]),
            values=np.concatenate([estimate.values for estimate in estimates]),
            base_values=np.concatenate([estimate.base_values for estimate in estimates]),
        )

    def to_bytes(self, *, keep_rows: bool) -> bytes:
        file = io.BytesIO()
        arrays = {name: array for name, array in vars(self).items() if name != "rows" or keep_rows}
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @staticmethod
    def from_bytes(content: bytes) -> Attributed:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return Attributed(**{"rows": None, **arrays})


def global_document(
    signature: Signature, attributed: Attributed, estimates: list[Estimate], weights: NDArray[np.float64] | None
) -> dict[str, Any]:
    """What a global explanation says, without its id and its receipt.

    Args:
        weights: `(n_rows,)`, what each row stands for; equal when None.
    """
    assert attributed.rows is not None
    residuals = np.concatenate([np.abs(estimate.efficiency_residuals) for estimate in estimates])
    stops = [estimate.stop_reason for estimate in estimates]
    return {
        "rows": len(attributed.rows),
        "evaluations": sum(estimate.evaluations for estimate in estimates),
        "stop_reasons": {reason: stops.count(reason) for reason in sorted(set(stops))},
        "max_efficiency_residual": float(residuals.max()),
        "targets": [
            _target_document(signature, attributed, target, weights)
            for target in sorted(set(attributed.target_of.tolist()))
        ],
    }


def _target_document(
    signature: Signature, attributed: Attributed, target: int, weights: NDArray[np.float64] | None
) -> dict[str, Any]:
    lines = np.flatnonzero(attributed.target_of == target)
    of_rows = attributed.row_of[lines]
    shares = np.ones(len(lines)) if weights is None else weights[of_rows]
    attributions = attributed.attributions[lines]
    found = importance(attributions, attributed.standard_errors[lines], shares)
    return {
        "target": signature.targets[target],
        "rows": len(lines),
        "base_value": float(attributed.base_values[lines[0]]),
        "mean_value": float(np.average(attributed.values[lines], weights=shares)),
        **(_heatmap(signature, found) if signature.image else {}),
        **({"windows": _windows(signature.series, found)} if signature.series else {}),
        **({"features": _features(signature, attributed, lines, found)} if signature.kind == "columns" else {}),
    }


def _heatmap(signature: Signature, found: Importance) -> dict[str, Any]:
    assert signature.image is not None
    shape = signature.image.shape[:2]
    return {
        "heatmap": {
            "feature": signature.image.name,
            "shape": list(shape),
            "mean_absolute_attributions": found.magnitudes.reshape(shape).tolist(),
            "mean_attributions": found.means.reshape(shape).tolist(),
            "half_widths": _whole(found.half_widths, shape),
            "standard_errors": _whole(found.errors, shape),
        }
    }


def _features(
    signature: Signature, attributed: Attributed, lines: NDArray[np.intp], found: Importance
) -> list[dict[str, Any]]:
    """The most important first."""
    assert attributed.rows is not None
    rows = attributed.rows[attributed.row_of[lines]]
    magnitudes, half_widths, errors = (of.tolist() for of in (found.magnitudes, found.half_widths, found.errors))
    return [
        {
            "feature": signature.features[i].name,
            "mean_absolute_attribution": magnitudes[i],
            "interval": _interval(magnitudes[i], half_widths[i], low=0.0),
            "mean_attribution": float(found.means[i]),
            "standard_error": _stated(errors[i]),
            "dependence": _dependence(
                signature.features[i], rows[:, signature.places[i]], attributed.attributions[lines, i]
            ),
        }
        for i in np.argsort(-found.magnitudes, kind="stable").tolist()
    ]


def _windows(series: Feature, found: Importance) -> list[dict[str, Any]]:
    """Of each channel in each window of time, the most important first."""
    named = identities(series_players(series, {"windows": len(found.means) // series.shape[1]}))
    return [
        {
            **named[i],
            "mean_absolute_attribution": float(found.magnitudes[i]),
            "interval": _interval(float(found.magnitudes[i]), float(found.half_widths[i]), low=0.0),
            "mean_attribution": float(found.means[i]),
            "standard_error": _stated(float(found.errors[i])),
        }
        for i in np.argsort(-found.magnitudes, kind="stable").tolist()
    ]


def _dependence(
    feature: Feature, columns: NDArray[np.float32], attributions: NDArray[np.float64]
) -> list[dict[str, Any]] | None:
    """How attributions follow values, `(n_lines, width)`: of groups of numbers or dates, of each category, and of the
    rows where it is missing. A text has no order to follow."""
    if feature.kind == "text":
        return None
    values = columns[:, 0].astype(np.float64)
    there = ~np.isnan(values)
    n_groups = len(np.unique(values[there])) if feature.kind == "categorical" else GROUPS
    groups = _grouped(feature, values[there], attributions[there], n_groups) if there.any() else []
    missing = attributions[~there]
    return groups + (_grouped(feature, np.full(len(missing), np.nan), missing, 1) if len(missing) else [])


def _grouped(
    feature: Feature, values: NDArray[np.float64], attributions: NDArray[np.float64], n_groups: int
) -> list[dict[str, Any]]:
    found = dependence(values, attributions, n_groups=n_groups)
    ends = np.column_stack([found.lows, found.highs])
    return [
        {
            "values": [_worded(feature, end) for end in ends[i]],
            "rows": int(found.counts[i]),
            "mean_attribution": float(found.means[i]),
            "interval": _interval(found.means[i], found.half_widths[i]),
        }
        for i in range(len(found.counts))
    ]


def _interval(middle: float, half_width: float, *, low: float = -np.inf) -> list[float] | None:
    """A 95 % confidence interval; null where there are too few rows for one."""
    return None if np.isnan(half_width) else [float(max(middle - half_width, low)), float(middle + half_width)]


def _worded(feature: Feature, value: float) -> Any:
    """The end of a group: a number as it is, a category or a date by its name, null where it is missing."""
    if feature.kind == "numeric":
        return None if np.isnan(value) else float(value)
    return named_value(feature, np.array([value], np.float32))


def _whole(values: NDArray[np.float64], shape: tuple[int, ...]) -> list[list[float]] | None:
    return None if np.isnan(values).any() else values.reshape(shape).tolist()


def _stated(error: float) -> float | None:
    return None if np.isnan(error) else float(error)
