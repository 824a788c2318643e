"""How an estimate is worded: the part of an answer that stands for one row."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from explain.attribution import Estimate
from explain.players import share_over_pixels
from models.encoding.reading import Given, named_value
from models.rows import ModelInput
from models.signature import Feature, Signature
from service.serving.players import identities, players_of_text, series_players


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """A row with what was asked of it.

    Attributes:
        row: `input_shape`.
        targets: the indices of the explained targets, in the order of the estimate's columns.
        options: of the method.
        given: what the row said in strings.
    """

    row: ModelInput
    prediction: dict[str, Any]
    targets: tuple[int, ...]
    options: Mapping[str, Any]
    given: Given


def row_document(
    signature: Signature, explained: ExplainedRow, estimate: Estimate, top_k: int | None
) -> dict[str, Any]:
    """Prediction, attributions and their errors of one row.

    Args:
        top_k: how many attributions to keep, by magnitude; the rest is summed in `omitted`. None for all.
    """
    residuals = estimate.efficiency_residuals
    shares = None if signature.image else _shares(signature, explained)
    return {
        "prediction": explained.prediction,
        "evaluations": estimate.evaluations,
        "stop_reason": estimate.stop_reason,
        **_unread(signature, explained),
        "targets": [
            {
                "target": signature.targets[target],
                "base_value": float(estimate.base_values[t]),
                "value": float(estimate.values[t]),
                **(_map(signature, estimate, t) if shares is None else _attributions(shares, estimate, t, top_k)),
                **_interactions(estimate, shares, t),
                "efficiency_residual": float(residuals[t]),
                "max_standard_error": _stated(estimate.standard_errors[:, t].max()),
            }
            for t, target in enumerate(explained.targets)
        ],
    }


def player_identities(
    signature: Signature, row: ModelInput, options: Mapping[str, Any], given: Given
) -> list[dict[str, Any]]:
    """How an answer names each player of a row that is no image."""
    if signature.text is not None:
        return identities(players_of_text(signature.text, row, given, options).players)
    if signature.series is not None:
        return identities(series_players(signature.series, options))
    return [{"feature": name} for name in signature.feature_names]


def _shares(signature: Signature, explained: ExplainedRow) -> list[dict[str, Any]]:
    """Of each player, how it is named and what it was."""
    row, given = explained.row, explained.given
    if signature.all_numeric and signature.kind == "columns":
        return [{"feature": name, "value": row[i]} for i, name in enumerate(signature.feature_names)]
    named = player_identities(signature, row, explained.options, given)
    if signature.text is not None:
        return named
    if signature.series is not None:
        channels = range(signature.series.shape[1])
        return [
            each | {"value": np.ascontiguousarray(row[slice(*each["window"]), channel])}
            for each, channel in zip(named, itertools.cycle(channels), strict=False)
        ]
    return [
        each | {"value": given[feature.name] if feature.name in given else named_value(feature, row[place])}
        for each, feature, place in zip(named, signature.features, signature.places, strict=True)
    ]


def _attributions(shares: list[dict[str, Any]], estimate: Estimate, t: int, top_k: int | None) -> dict[str, Any]:
    attributions, errors = estimate.attributions[:, t], estimate.standard_errors[:, t]
    kept = np.arange(len(attributions))
    if top_k is not None:
        kept = np.argsort(-np.abs(attributions), kind="stable")[:top_k]
    return {
        "attributions": [
            shares[i] | {"attribution": float(attributions[i]), "standard_error": _stated(errors[i])} for i in kept
        ],
        "omitted": float(np.delete(attributions, kept).sum()),
    }


def _map(signature: Signature, estimate: Estimate, t: int) -> dict[str, Any]:
    assert signature.image is not None
    attributions, errors = estimate.attributions[:, t], estimate.standard_errors[:, t]
    if estimate.segments is not None:
        heatmap = _heatmap_of_segments(signature.image, attributions, errors, estimate.segments)
        return {"heatmap": heatmap, "omitted": 0.0}
    shape = signature.image.shape[:2]
    heatmap = {
        "feature": signature.image.name,
        "shape": list(shape),
        "attributions": attributions.reshape(shape).tolist(),
        "standard_errors": None if np.isnan(errors).any() else errors.reshape(shape).tolist(),
    }
    return {"heatmap": heatmap, "omitted": 0.0}


def _unread(signature: Signature, explained: ExplainedRow) -> dict[str, Any]:
    """Where a text is longer than what is read of it: the span that nobody has looked at."""
    if signature.text is None:
        return {}
    unread = players_of_text(signature.text, explained.row, explained.given, explained.options).unread
    return {} if unread is None else {"unread": list(unread)}


def _heatmap_of_segments(
    image: Feature, attributions: np.ndarray, errors: np.ndarray, segments: np.ndarray
) -> dict[str, Any]:
    """A segment's share, and its error, divided over its pixels."""
    elements = segments[..., np.newaxis]
    shares, parts = (share_over_pixels(of[:, np.newaxis], elements)[..., 0] for of in (attributions, errors))
    return {
        "feature": image.name,
        "shape": list(image.shape[:2]),
        "attributions": shares.tolist(),
        "standard_errors": None if np.isnan(errors).any() else parts.tolist(),
        "segments": segments.tolist(),
    }


def _interactions(estimate: Estimate, shares: list[dict[str, Any]] | None, t: int) -> dict[str, Any]:
    """Of every two features, or of every two others by their numbers: segments, or places in `attributions`."""
    found = estimate.interactions
    if found is None:
        return {}
    by_name = shares is not None and all(share.keys() <= {"feature", "value"} for share in shares)
    return {
        "interactions": [
            {
                **_pair(a, b, shares if by_name else None, "segments" if shares is None else "players"),
                "interaction": value,
                "standard_error": _stated(error),
            }
            for (a, b), value, error in zip(
                found.pairs.tolist(), found.values[:, t].tolist(), found.standard_errors[:, t].tolist(), strict=True
            )
        ]
    }


def _pair(a: int, b: int, shares: list[dict[str, Any]] | None, numbered: str) -> dict[str, Any]:
    return {numbered: [a, b]} if shares is None else {"features": [shares[a]["feature"], shares[b]["feature"]]}


def _stated(error: float) -> float | None:
    """A standard error as JSON says it: null where too little was sampled to state one."""
    return None if np.isnan(error) else float(error)
