"""How an estimate is worded: the part of an answer that stands for one row."""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.attribution import Estimate
from explain.players import share_over_pixels
from models.rows import ModelInput
from models.signature import Feature, Signature


def row_document(
    signature: Signature,
    prediction: dict[str, Any],
    row: ModelInput,
    targets: tuple[int, ...],
    estimate: Estimate,
    top_k: int | None,
) -> dict[str, Any]:
    """Prediction, attributions and their errors of one row `input_shape`.

    Args:
        targets: the indices of the explained targets, in the order of the estimate's columns.
        top_k: how many attributions to keep, by magnitude; the rest is summed in `omitted`. None for all.
    """
    residuals = estimate.efficiency_residuals
    return {
        "prediction": prediction,
        "evaluations": estimate.evaluations,
        "stop_reason": estimate.stop_reason,
        "targets": [
            {
                "target": signature.targets[target],
                "base_value": float(estimate.base_values[t]),
                "value": float(estimate.values[t]),
                **_attributions(signature, row, estimate, t, top_k),
                **_interactions(signature, estimate, t),
                "efficiency_residual": float(residuals[t]),
                "max_standard_error": _stated(estimate.standard_errors[:, t].max()),
            }
            for t, target in enumerate(targets)
        ],
    }


def _attributions(
    signature: Signature, row: ModelInput, estimate: Estimate, t: int, top_k: int | None
) -> dict[str, Any]:
    attributions, errors = estimate.attributions[:, t], estimate.standard_errors[:, t]
    if signature.image and estimate.segments is not None:
        heatmap = _heatmap_of_segments(signature.image, attributions, errors, estimate.segments)
        return {"heatmap": heatmap, "omitted": 0.0}
    if signature.image:
        shape = signature.image.shape[:2]
        heatmap = {
            "feature": signature.image.name,
            "shape": list(shape),
            "attributions": attributions.reshape(shape).tolist(),
            "standard_errors": None if np.isnan(errors).any() else errors.reshape(shape).tolist(),
        }
        return {"heatmap": heatmap, "omitted": 0.0}
    kept = np.arange(len(attributions))
    if top_k is not None:
        kept = np.argsort(-np.abs(attributions), kind="stable")[:top_k]
    return {
        "attributions": [
            {
                "feature": signature.features[i].name,
                "value": row[i],
                "attribution": float(attributions[i]),
                "standard_error": _stated(errors[i]),
            }
            for i in kept
        ],
        "omitted": float(np.delete(attributions, kept).sum()),
    }


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


def _interactions(signature: Signature, estimate: Estimate, t: int) -> dict[str, Any]:
    """Of every two features, or of every two segments by their numbers."""
    found = estimate.interactions
    if found is None:
        return {}
    names = signature.feature_names if signature.image is None else None
    return {
        "interactions": [
            {
                **({"segments": [a, b]} if names is None else {"features": [names[a], names[b]]}),
                "interaction": value,
                "standard_error": _stated(error),
            }
            for (a, b), value, error in zip(
                found.pairs.tolist(), found.values[:, t].tolist(), found.standard_errors[:, t].tolist(), strict=True
            )
        ]
    }


def _stated(error: float) -> float | None:
    """A standard error as JSON says it: null where too little was sampled to state one."""
    return None if np.isnan(error) else float(error)
