"""The figures of a version over rows: every metric once, by label, and why one is not defined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.weighted import Ranking, weighted_metrics
from models.signature import Signature


def evaluate(
    outputs: NDArray[Any], targets: NDArray[Any], signature: Signature, positive_label: str | None
) -> dict[str, Any]:
    """Metrics of outputs against the truth.

    Args:
        outputs: `(n_rows, n_targets)`, probabilities by label or values in the target's units.
        targets: `(n_rows,)`, class indices or values.
        positive_label: of two labels, the one whose precision, recall, F1 and average precision are given; without
            it they are the means over the labels (macro).

    Returns:
        `{"rows", "metrics": {...}, "undefined": {...}}`, with `confusion_matrix` (rows: truth, columns: prediction, in
        label order) and `per_label` for a classification. A metric that is not defined on these rows is None, and
        `undefined` says why.
    """
    found = weighted_metrics(outputs, targets, signature, positive_label)(np.ones((1, len(targets))))
    metrics = {name: number(values[0]) for name, values in found.items()}
    document = {"rows": len(targets), "metrics": metrics, "undefined": _undefined(metrics, targets, signature)}
    if signature.task == "regression":
        return document
    return document | _by_label(outputs, targets, signature)


def number(value: float) -> float | None:
    """A number as JSON has it: None for what is not finite."""
    return float(value) if math.isfinite(value) else None


def _undefined(metrics: dict[str, float | None], targets: NDArray[Any], signature: Signature) -> dict[str, str]:
    missing = [name for name, value in metrics.items() if value is None]
    if not missing:
        return {}
    if signature.task == "regression":
        reason = f"all {len(targets)} rows have the same {signature.target}: there is nothing to explain"
        if len(targets) == 1:
            reason = "one row has no variance"
        finite = "an output is not a finite number"
        return {name: reason if name == "r2" and metrics["mse"] is not None else finite for name in missing}
    held = np.unique(targets)
    if len(held) == 1:
        reason = f"all {len(targets)} rows have the label {signature.labels[held[0]]!r}"
    else:
        reason = "an output is not a finite number"
    return dict.fromkeys(missing, reason)


def _by_label(outputs: NDArray[Any], targets: NDArray[Any], signature: Signature) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix

    n_labels = len(signature.labels)
    matrix = confusion_matrix(targets, outputs.argmax(axis=1), labels=list(range(n_labels)))
    hits, support, chosen = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    once = np.ones((1, len(targets)))
    lines = {}
    for i, label in enumerate(signature.labels):
        roc, average = Ranking(outputs[:, i].astype(np.float64), targets == i)(once)
        lines[label] = {
            "precision": float(hits[i] / chosen[i]) if chosen[i] else 0.0,
            "recall": float(hits[i] / support[i]) if support[i] else 0.0,
            "f1": float(2 * hits[i] / (chosen[i] + support[i])) if chosen[i] + support[i] else 0.0,
            "roc_auc": number(roc[0]),
            "pr_auc": number(average[0]),
            "rows": int(support[i]),
        }
    return {"per_label": lines, "confusion_matrix": matrix.tolist()}
