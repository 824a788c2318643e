"""Explanations in the form of Vertex Explainable AI: `explanations[].attributions[]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.attribution import Estimate
from models.signature import Signature
from service.serving.explainer import Explained


def vertex_explanations(explained: Explained, predictions: Any) -> dict[str, Any]:
    """A whole answer.

    Args:
        predictions: of each row, in the form of the protocol that asked.
    """
    document, signature = explained.document, explained.served.signature
    return {
        "explanations": [
            {"attributions": [_attribution(signature, estimate, t, said) for t, said in enumerate(row["targets"])]}
            for row, estimate in zip(document["explanations"], explained.estimates, strict=True)
        ],
        "predictions": predictions,
        "deployedModelId": f"{document['model']}@{document['version']}",
        # Not Vertex's: what else there is to know, under names that it does not use.
        "id": document["id"],
        "receipt": document["receipt"],
    }


def approximation_errors(estimate: Estimate) -> list[float | None]:
    """Per target, how far off attributions may be, as a part of the explanation's scale S: the largest half-width of
    their 95 % intervals or, where it is larger, what they miss of the difference they add up to. It is what `tolerance`
    bounds. Of a path that was not sampled it is what is missed alone, as Vertex has it. None where nothing is known: of
    other methods that do not sample, and of saliency, which adds up to no value."""
    if estimate.estimand == "saliency":
        return [None] * len(estimate.values)
    widths = estimate.half_widths.max(axis=0)
    if estimate.estimand == "aumann-shapley":
        widths = np.nan_to_num(widths)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.maximum(widths, np.abs(estimate.efficiency_residuals)) / estimate.scales
    # An output that is the same everywhere has the scale 0.
    errors = np.where((estimate.scales == 0) & (widths == 0), 0.0, errors)
    return [float(error) if np.isfinite(error) else None for error in errors]


def _attribution(signature: Signature, estimate: Estimate, t: int, said: dict[str, Any]) -> dict[str, Any]:
    """Of one target; `said` is what our own form says of it."""
    attributions, errors = _by_feature(signature, said)
    return {
        "baselineOutputValue": said["base_value"],
        "instanceOutputValue": said["value"],
        "featureAttributions": attributions,
        "outputIndex": [signature.targets.index(said["target"])],
        "outputDisplayName": said["target"],
        "approximationError": approximation_errors(estimate)[t],
        "outputName": signature.target,
        "featureStandardErrors": errors,
    }


def _by_feature(signature: Signature, said: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributions, and their standard errors, by feature: a number, or a list in the order of the feature's players
    (the lines of an image, the words of a text, the windows of a series)."""
    if signature.image is not None:
        name, heatmap = signature.image.name, said["heatmap"]
        return {name: heatmap["attributions"]}, {name: heatmap["standard_errors"]}
    shares = said["attributions"]
    if signature.kind != "columns":
        name = signature.feature_names[0]
        return {name: [each["attribution"] for each in shares]}, {name: [each["standard_error"] for each in shares]}
    return (
        {each["feature"]: each["attribution"] for each in shares},
        {each["feature"]: each["standard_error"] for each in shares},
    )
