"""Every metric as a function of how much each row counts, so that one implementation gives the value and, for a
thousand weightings at once, its bootstrap distribution."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bins import calibration_bins
from models.signature import Signature

Weights = NDArray[np.float64]
"""`(n_weightings, n_rows)`: how often each row counts."""

ByMetric = dict[str, NDArray[np.float64]]
"""By name of a metric `(n_weightings,)`; NaN where it is not defined."""

LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities are float32: nearer to 0 or 1 than this, the log loss takes them as this far away."""


class WeightedMetrics(Protocol):
    """The metrics of fixed outputs and truths, by weights."""

    n_rows: int

    def __call__(self, weights: Weights) -> ByMetric: ...


def weighted_metrics(
    outputs: NDArray[Any], targets: NDArray[Any], signature: Signature, positive_label: str | None
) -> WeightedMetrics:
    """The metrics of a task.

    Args:
        outputs: `(n_rows, n_targets)`: probabilities by label, or values in the target's units.
        targets: `(n_rows,)`: class indices or values.
        positive_label: of two labels, the one whose precision, recall, F1 and area under the precision-recall curve
            are given. Without it they are the means over the labels.
    """
    if signature.task == "regression":
        return RegressionMetrics(outputs[:, 0], targets)
    positive = None if positive_label is None else signature.labels.index(positive_label)
    return ClassificationMetrics(outputs, targets, positive)


class RegressionMetrics:
    def __init__(self, values: NDArray[Any], targets: NDArray[Any]) -> None:
        truth = targets.astype(np.float64)
        errors = values.astype(np.float64) - truth
        # Around the middle: differences of large squares would cancel.
        truth = truth - truth.mean() if len(truth) else truth
        self.n_rows = len(truth)
        self._terms = np.column_stack([np.abs(errors), errors**2, truth, truth**2])
        self._constant = bool(len(truth) and np.ptp(truth) == 0)

    def __call__(self, weights: Weights) -> ByMetric:
        total = weights.sum(axis=1)
        absolute, squared, first, second = (weights @ self._terms).T / total
        variance = np.maximum(second - first**2, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            vanishing = variance <= 1e-12 * second if not self._constant else np.ones(len(total), bool)
            r2 = np.where(vanishing, np.nan, 1.0 - squared / variance)
        return {"mae": absolute, "mse": squared, "rmse": np.sqrt(squared), "r2": r2}


class ClassificationMetrics:
    """
    - `precision`, `recall`, `f1`, `pr_auc`: of the positive label; without one, means over the labels.
    - `macro_...`: means over all labels; a label without rows counts 0, as a ratio without a denominator does.
    - `balanced_accuracy`: the mean recall of the labels that have rows.
    - `roc_auc`, `pr_auc`: with more than two labels the mean of each against the rest, over the labels that have rows.
      `pr_auc` is the average precision: no interpolation.
    - `brier`: of two labels the mean squared error of the positive one's probability; of more, summed over labels
      (Brier 1950).
    - `expected_calibration_error`: of the predicted label's probability, 15 bins of equal width (Guo et al. 2017,
      equation 3).
    """

    def __init__(self, outputs: NDArray[Any], targets: NDArray[Any], positive: int | None) -> None:
        probabilities = outputs.astype(np.float64)
        self.n_rows, self.n_labels = probabilities.shape
        self._positive = positive
        predicted = probabilities.argmax(axis=1)
        truth = np.eye(self.n_labels)[targets]
        chosen = np.eye(self.n_labels)[predicted]
        rows = np.arange(self.n_rows)
        own = np.clip(probabilities[rows, targets], LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        errors = ((probabilities - truth) ** 2).sum(axis=1) / (2 if self.n_labels == 2 else 1)
        bins = calibration_bins(probabilities[rows, predicted])
        gaps = (predicted == targets) - probabilities[rows, predicted]
        self._terms = np.column_stack([truth * chosen, truth, chosen, -np.log(own), errors, bins * gaps[:, None]])
        # Of two labels one is ranked: the area under the ROC curve is the same for both.
        one = 1 if positive is None else positive
        ranked = [one] if self.n_labels == 2 else range(self.n_labels)
        self._rankings = {label: Ranking(probabilities[:, label], targets == label) for label in ranked}

    def __call__(self, weights: Weights) -> ByMetric:
        k = self.n_labels
        total = weights.sum(axis=1)
        sums = weights @ self._terms
        hits, support, chosen = sums[:, :k], sums[:, k : 2 * k], sums[:, 2 * k : 3 * k]
        precision, recall = _ratio(hits, chosen), _ratio(hits, support)
        f1 = _ratio(2 * hits, chosen + support)
        with np.errstate(invalid="ignore"):
            balanced = np.where(support > 0, recall, 0.0).sum(axis=1) / (support > 0).sum(axis=1)
        areas = [ranking(weights) for ranking in self._rankings.values()]
        one = self._positive
        return {
            "accuracy": hits.sum(axis=1) / total,
            "balanced_accuracy": balanced,
            "precision": precision.mean(axis=1) if one is None else precision[:, one],
            "recall": recall.mean(axis=1) if one is None else recall[:, one],
            "f1": f1.mean(axis=1) if one is None else f1[:, one],
            "macro_precision": precision.mean(axis=1),
            "macro_recall": recall.mean(axis=1),
            "macro_f1": f1.mean(axis=1),
            "roc_auc": _mean_of_defined([roc for roc, _ in areas]),
            "pr_auc": _mean_of_defined([pr for _, pr in areas]),
            "log_loss": sums[:, 3 * k] / total,
            "brier": sums[:, 3 * k + 1] / total,
            "expected_calibration_error": np.abs(sums[:, 3 * k + 2 :]).sum(axis=1) / total,
        }


class Ranking:
    """The areas under the ROC and the precision-recall curve of one label's scores, by weights."""

    def __init__(self, scores: NDArray[np.float64], is_label: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        # Only at the label's own rows is anything summed: with many labels, they are few.
        own = np.flatnonzero(is_label[self._order])
        # Rows of one score stand or fall together: the cumulated weights above a row end before the first of them.
        self._own = self._order[own]
        self._first = np.searchsorted(-ranked, -ranked[own], side="left")
        self._last = np.searchsorted(-ranked, -ranked[own], side="right")
        self._own_first = np.searchsorted(-ranked[own], -ranked[own], side="left")
        self._own_last = np.searchsorted(-ranked[own], -ranked[own], side="right")

    def __call__(self, weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ROC and average precision, `(n_weightings,)` each; NaN without rows of the label, or (ROC) of others."""
        above = _cumulated(weights.take(self._order, axis=1))
        own = weights.take(self._own, axis=1)
        own_above = _cumulated(own)
        n_own = own_above[:, -1]
        n_others = above[:, -1] - n_own
        through, own_through = above.take(self._last, axis=1), own_above.take(self._own_last, axis=1)
        # Each row of the label beats the others below it, and half of those beside it.
        before = above.take(self._first, axis=1) - own_above.take(self._own_first, axis=1)
        lost = (own * (before + through - own_through)).sum(axis=1) / 2
        precision = np.divide(own_through, through, out=np.zeros_like(through), where=through > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            roc = 1.0 - lost / (n_own * n_others)
            average = (own * precision).sum(axis=1) / n_own
        return np.where(n_own * n_others > 0, roc, np.nan), np.where(n_own > 0, average, np.nan)


def _cumulated(weights: Weights) -> Weights:
    """`(n_weightings, n_rows + 1)`: sums over the rows before each, from 0 to all."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _ratio(parts: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where there is nothing to take a part of, as a label that is never predicted has a precision of 0."""
    return np.divide(parts, of, out=np.zeros_like(parts), where=of > 0)


def _mean_of_defined(columns: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    table = np.stack(columns)
    defined = ~np.isnan(table)
    count = defined.sum(axis=0)
    return np.divide(np.where(defined, table, 0.0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
