"""How well a version predicts the untouched test part."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from models.signature import Signature


def evaluate(outputs: np.ndarray, targets: np.ndarray, signature: Signature, positive_label: str | None) -> dict:
    """Metrics of outputs against the truth.

    Args:
        outputs: `(n_rows, n_targets)`, probabilities by label or values in the target's units.
        targets: `(n_rows,)`, class indices or values.
        positive_label: of two labels, the one whose precision, recall and F1 are given; with more labels they are
            the means over the labels (macro).

    Returns:
        `{"rows", "metrics": {...}}`, with `confusion_matrix` (rows: truth, columns: prediction, in label order) and
        `per_label` for a classification.
    """
    if signature.task == "regression":
        return {"rows": len(targets), "metrics": _regression_metrics(outputs[:, 0], targets)}
    return {"rows": len(targets), **_classification_metrics(outputs, targets, signature, positive_label)}


def _regression_metrics(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    return {
        "mae": float(mean_absolute_error(targets, outputs)),
        "mse": float(mean_squared_error(targets, outputs)),
        "r2": float(r2_score(targets, outputs)),
    }


def _classification_metrics(
    outputs: np.ndarray, targets: np.ndarray, signature: Signature, positive_label: str | None
) -> dict[str, Any]:
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    predicted, indices = outputs.argmax(axis=1), range(len(signature.labels))
    by_label = precision_recall_fscore_support(targets, predicted, labels=list(indices), zero_division=cast(Any, 0.0))
    precision, recall, f1, support = (np.asarray(values) for values in by_label)
    if positive_label is None:
        summary = [float(values.mean()) for values in (precision, recall, f1)]
    else:
        positive = signature.labels.index(positive_label)
        summary = [float(values[positive]) for values in (precision, recall, f1)]
    return {
        "metrics": {
            "accuracy": float(accuracy_score(targets, predicted)),
            **dict(zip(("precision", "recall", "f1"), summary, strict=True)),
        },
        "per_label": {
            label: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "rows": int(support[i]),
            }
            for i, label in enumerate(signature.labels)
        },
        "confusion_matrix": confusion_matrix(targets, predicted, labels=list(indices)).tolist(),
    }
