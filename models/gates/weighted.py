"""Metrics of many weightings of the same rows at once: what a bootstrap asks for thousands of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
"""`(n_weightings, n_rows)`, not negative; each weighting has a positive sum."""

LOWER_IS_BETTER = frozenset({"mae", "mse", "rmse", "log_loss", "brier"})
_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Below, log loss would be that of float32's rounding; scikit-learn clips there too."""


def weighted_metric(
    name: str, outputs: NDArray[Any], targets: NDArray[Any], weights: Weights, positive: int | None
) -> NDArray[np.float64]:
    """A metric for each weighting: `(n_weightings,)`.

    As scikit-learn's with `sample_weight` and `zero_division=0`; without a positive label, precision, recall and F1
    are means over the labels (macro). Brier is the sum over the labels of squared differences; of two labels half of
    it, as Brier's score of the positive one is.

    Args:
        outputs: `(n_rows, n_targets)`, probabilities by label or values.
        targets: `(n_rows,)`, class indices or values.
        positive: the index of the positive label of two.
    """
    outputs = np.asarray(outputs, np.float64)
    if name in ("mae", "mse", "rmse", "r2"):
        return _REGRESSION[name](outputs[:, 0], np.asarray(targets, np.float64), weights)
    if name in ("log_loss", "brier"):
        return _mean(_probability_loss(name, outputs, targets), weights)
    return _of_confusion(name, _confusion(outputs, targets, weights), positive)


def _mean(values: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    return weights @ values / weights.sum(axis=1)


def _r2(values: NDArray[np.float64], truth: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    # About the mean of all rows, so that nothing cancels: the spread of a weighting is not changed by a shift.
    centred = truth - truth.mean()
    spread = _mean(centred**2, weights) - _mean(centred, weights) ** 2
    error = _mean((values - truth) ** 2, weights)
    return 1.0 - np.divide(error, spread, out=np.ones_like(error), where=spread > 0)


_REGRESSION: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64], Weights], NDArray[np.float64]]] = {
    "mae": lambda values, truth, weights: _mean(np.abs(values - truth), weights),
    "mse": lambda values, truth, weights: _mean((values - truth) ** 2, weights),
    "rmse": lambda values, truth, weights: np.sqrt(_mean((values - truth) ** 2, weights)),
    "r2": _r2,
}


def _probability_loss(name: str, outputs: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
    """`(n_rows,)`."""
    if name == "log_loss":
        given = np.clip(outputs[np.arange(len(targets)), targets], _LEAST_PROBABILITY, 1.0)
        return -np.log(given)
    truth = np.eye(outputs.shape[1])[targets]
    return ((outputs - truth) ** 2).sum(axis=1) / (2.0 if outputs.shape[1] == 2 else 1.0)


def _confusion(outputs: NDArray[np.float64], targets: NDArray[Any], weights: Weights) -> NDArray[np.float64]:
    """`(n_weightings, n_labels, n_labels)`: rows truth, columns prediction."""
    n_labels = outputs.shape[1]
    cells = np.eye(n_labels * n_labels)[targets * n_labels + outputs.argmax(axis=1)]
    return (weights @ cells).reshape(-1, n_labels, n_labels)


def _of_confusion(name: str, confusion: NDArray[np.float64], positive: int | None) -> NDArray[np.float64]:
    right = np.diagonal(confusion, axis1=1, axis2=2)
    of_truth, of_prediction = confusion.sum(axis=2), confusion.sum(axis=1)
    if name == "accuracy":
        return right.sum(axis=1) / confusion.sum(axis=(1, 2))
    if name == "balanced_accuracy":
        # Labels that a weighting does not have say nothing about it.
        return np.nanmean(np.where(of_truth > 0, _part(right, of_truth), np.nan), axis=1)
    by_label = {
        "precision": lambda: _part(right, of_prediction),
        "recall": lambda: _part(right, of_truth),
        "f1": lambda: _part(2 * right, of_truth + of_prediction),
    }[name]()
    return by_label.mean(axis=1) if positive is None else by_label[:, positive]


def _part(some: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(some, whole, out=np.zeros_like(some), where=whole > 0)
