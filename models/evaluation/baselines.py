"""What simpler models reach on the same rows, so that a network that does not earn its place is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Distribution, rounded
from models.evaluation.figures import number
from models.evaluation.names import more_is_better
from models.rows import ModelInput
from models.signature import Signature, Task

MAX_ROWS = 50_000
MAX_COLUMNS = 2_000
MAX_CATEGORIES = 255
"""Codes of more are taken for numbers."""
MAX_TREES = 1_500
"""Over all labels: with many, each gets fewer rounds."""
ROUNDS = 100

COMPARED: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc", "log_loss", "brier"),
    "regression": ("mae", "rmse", "r2"),
}


@dataclass(frozen=True)
class Baseline:
    """A simple model's outputs on the test rows, `(n_rows, n_targets)`, or why there are none."""

    name: str
    description: str
    outputs: NDArray[np.float64] | None
    rows: int = 0
    reason: str | None = None


def constant_baseline(targets: NDArray[Any], n_rows: int, signature: Signature) -> Baseline:
    """The mean of the train rows' targets, or how often each label is among them, for every row."""
    if signature.task == "regression":
        outputs = np.full((n_rows, 1), float(targets.mean()))
        return Baseline("mean", "the mean of the train rows", outputs, len(targets))
    parts = np.bincount(targets, minlength=len(signature.labels)) / len(targets)
    label = signature.labels[int(parts.argmax())]
    return Baseline(
        "majority", f"{label!r} for every row, as often as in the train rows", np.tile(parts, (n_rows, 1)), len(targets)
    )


def gradient_boosting(
    inputs: ModelInput, targets: NDArray[Any], test_inputs: ModelInput, signature: Signature, seed: int
) -> Baseline:
    """scikit-learn's histogram gradient boosting with its defaults, on the rows that the network was given to learn
    and to stop by. It takes raw values, missing ones too."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    name, what = "gradient_boosting", "scikit-learn's HistGradientBoosting on the train and validation rows"
    columns, test_columns = (rows.reshape(len(rows), -1) for rows in (inputs, test_inputs))
    if columns.shape[1] > MAX_COLUMNS:
        reason = f"{columns.shape[1]:,} columns: not fitted on more than {MAX_COLUMNS:,}"
        return Baseline(name, what, None, reason=reason)
    if len(columns) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(columns), MAX_ROWS, replace=False))
        columns, targets = columns[chosen], targets[chosen]
        what += f", {MAX_ROWS:,} of them"
    rounds = max(10, min(ROUNDS, MAX_TREES // signature.n_network_outputs))
    asked: dict[str, Any] = {"max_iter": rounds, "early_stopping": False, "random_state": seed}
    if signature.kind == "columns":
        asked["categorical_features"] = [
            feature.kind == "categorical" and feature.n_codes < MAX_CATEGORIES
            for feature in signature.features
            for _ in range(feature.width)
        ]
    if rounds < ROUNDS:
        what += f", in {rounds} rounds"
    if signature.task == "regression":
        model: Any = HistGradientBoostingRegressor(**asked).fit(columns, targets)
        outputs = model.predict(test_columns)[:, None]
    else:
        model = HistGradientBoostingClassifier(**asked).fit(columns, targets)
        outputs = np.zeros((len(test_columns), len(signature.labels)))
        outputs[:, model.classes_] = model.predict_proba(test_columns)
    return Baseline(name, what, outputs, len(columns))


def main_metric(signature: Signature) -> str:
    """The one by which a network earns its place."""
    if signature.task == "regression":
        return "r2"
    return "roc_auc" if len(signature.labels) == 2 else "accuracy"


def compared(network: Distribution, baseline: Distribution, task: Task) -> dict[str, Any]:
    """By metric: network minus baseline on the same rows and resamples, its interval, and the probability that the
    network is the better one (the part of the resamples in which it is, those that are even counted half)."""
    difference = network.minus(baseline)
    found = {}
    for name in COMPARED[task]:
        above = difference.share_above_zero(name)
        better = above if above is None or more_is_better(name) else 1.0 - above
        found[name] = {
            "difference": number(difference.whole[name]),
            "interval": rounded(difference.interval(name)),
            "probability_better": better,
        }
    return found


def place_in_words(metric: str, own: float | None, baseline: Baseline, other: float | None, found: Any) -> str | None:
    """A warning where the network is evidently worse than gradient boosting, or not evidently better than a constant.

    Args:
        own, other: the metric of the network and of the baseline.
        found: the metric's line of `compared`.
    """
    if own is None or other is None or found["difference"] is None:
        return None
    figures = f"{metric} {own:.3f} against {other:.3f}"
    interval = found["interval"]
    if interval is not None:
        figures += f" (difference {found['difference']:+.3f}, 95 % interval {interval[0]:+.3f} to {interval[1]:+.3f})"
    if baseline.name == "gradient_boosting":
        evidently_worse = found["difference"] < 0 if interval is None else interval[1] < 0
        if evidently_worse:
            return f"Gradient boosting predicts these rows better: {figures}. The network does not earn its place here."
        return None
    not_better = found["difference"] <= 0 if interval is None else interval[0] <= 0
    if not_better:
        return f"The network is not evidently better than a constant answer ({baseline.description}): {figures}."
    return None
