"""How a version does by group of a sensitive feature, and how far groups are apart (fairlearn's measures)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Distribution, Resampling, bca_interval, rounded
from models.evaluation.figures import number
from models.evaluation.groups import Groups
from models.evaluation.weighted import ByMetric, Weights, weighted_metrics
from models.signature import Signature

MAX_ROWS = 10_000
LEAST_ROWS = 10
"""Groups with fewer rows are shown, and left out of the differences between groups."""

SHOWN = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "mae", "rmse", "r2")


def slice_by(
    groups: Groups,
    outputs: NDArray[Any],
    targets: NDArray[Any],
    signature: Signature,
    positive_label: str | None,
    seed: int,
) -> dict[str, Any]:
    """Figures by group, and the differences between groups.

    Args:
        groups: of the rows.
        outputs: `(n_rows, n_targets)`.
        targets: `(n_rows,)`.

    Returns:
        `groups`, each with rows, metrics and intervals; `differences` between the largest and the smallest value of a
        group, with intervals; `too_small`, the groups that are not compared. Of a classification also
        `demographic_parity` and `equalized_odds`, of the positive label; with more than two labels of the one that
        fares worst.
    """
    sizes = np.bincount(groups.of_row, minlength=len(groups.names))
    compared = [place for place in range(len(sizes)) if sizes[place] >= LEAST_ROWS]
    lines = []
    for place, name in enumerate(groups.names):
        members = np.flatnonzero(groups.of_row == place)
        of_group = weighted_metrics(outputs[members], targets[members], signature, positive_label)
        found = Distribution.of(of_group, _resampled(targets[members], signature, seed))
        shown = [metric for metric in SHOWN if metric in found.whole]
        lines.append(
            {
                "group": name,
                "rows": int(sizes[place]),
                "metrics": {metric: number(found.whole[metric]) for metric in shown},
                "intervals": {metric: rounded(found.interval(metric)) for metric in shown},
                **_rates(outputs[members], targets[members], signature, positive_label),
            }
        )
    document: dict[str, Any] = {
        "groups": lines,
        "cut_at": None if groups.cut_at is None else list(groups.cut_at),
        "too_small": [groups.names[place] for place in range(len(sizes)) if place not in compared],
    }
    if len(compared) < 2:
        few = f"fewer than two groups have {LEAST_ROWS} rows"
        return document | {"differences": None, "reason": few}
    kept = np.flatnonzero(np.isin(groups.of_row, compared))
    part = Compared(np.searchsorted(compared, groups.of_row[kept]), len(compared))
    of_rows = _resampled(targets[kept], signature, seed)
    if signature.task == "regression":
        errors = Spread(part, {"mae": np.abs(outputs[kept, 0].astype(np.float64) - targets[kept])})
        return document | {"differences": _worded(Distribution.of(errors, of_rows))}
    right = outputs[kept].argmax(axis=1) == targets[kept]
    spread = Spread(part, {"accuracy": right.astype(np.float64)})
    labels = [positive_label] if positive_label is not None else list(signature.labels)
    fairness = {str(label): _fairness(str(label), outputs[kept], targets[kept], signature, part) for label in labels}
    worst = max(fairness, key=lambda label: fairness[label]["demographic_parity"]["difference"])
    intervals = Distribution.of(
        Parity(part, outputs[kept].argmax(axis=1) == signature.labels.index(worst),
               targets[kept] == signature.labels.index(worst)), of_rows
    )  # fmt: skip
    for measure in ("demographic_parity", "equalized_odds"):
        values = intervals.resampled[measure]
        found = bca_interval(intervals.whole[measure], values, intervals.jackknifed[measure])
        fairness[worst][measure]["interval"] = rounded(found)
    return document | {"differences": _worded(Distribution.of(spread, of_rows)), "label": worst, **fairness[worst]}


def fairness_warnings(feature: str, document: dict[str, Any]) -> list[str]:
    """Where groups are evidently apart, and where they are too small to say."""
    warnings = []
    if document["too_small"]:
        names = ", ".join(document["too_small"])
        warnings.append(f"Groups of {feature} with fewer than {LEAST_ROWS} test rows were not compared: {names}.")
    for metric, found in (document["differences"] or {}).items():
        lines = [line for line in document["groups"] if line["group"] not in document["too_small"]]
        values = [(line["metrics"][metric], line) for line in lines if line["intervals"].get(metric) is not None]
        if len(values) < 2:
            continue
        (_, low), (_, high) = min(values, key=lambda each: each[0]), max(values, key=lambda each: each[0])
        if low["intervals"][metric][1] < high["intervals"][metric][0]:
            warnings.append(
                f"{metric} differs by {found['difference']:.3f} between groups of {feature}: "
                f"{low['metrics'][metric]:.3f} for {low['group']}, {high['metrics'][metric]:.3f} for {high['group']}."
            )
    return warnings


class Compared:
    """Rows by group: `(n_rows, n_groups)` of 0 and 1."""

    def __init__(self, of_row: NDArray[np.int64], n_groups: int) -> None:
        self.members = np.eye(n_groups)[of_row]

    def means(self, weights: Weights, values: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n_weightings, n_groups)`: the mean value of each group's rows among some; NaN where it has none."""
        total = weights @ (self.members * among[:, None])
        sums = weights @ (self.members * (values * among)[:, None])
        return np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)


class Spread:
    """By metric the largest less the smallest mean of a group."""

    def __init__(self, groups: Compared, values: dict[str, NDArray[np.float64]]) -> None:
        self.n_rows = len(groups.members)
        self._groups, self._values = groups, values

    def __call__(self, weights: Weights) -> ByMetric:
        once = np.ones(self.n_rows)
        return {name: _range(self._groups.means(weights, values, once)) for name, values in self._values.items()}


class Parity:
    """Demographic parity and equalized odds differences of one label, as fairlearn defines them, by weights."""

    def __init__(self, groups: Compared, predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
        self.n_rows = len(predicted)
        self._groups, self._predicted, self._true = groups, predicted.astype(np.float64), true.astype(np.float64)

    def __call__(self, weights: Weights) -> ByMetric:
        selected, hit, raised = (
            self._groups.means(weights, self._predicted, among)
            for among in (np.ones(self.n_rows), self._true, 1.0 - self._true)
        )
        both = ~np.isnan(hit + raised)
        odds = np.fmax(_range(np.where(both, hit, np.nan)), _range(np.where(both, raised, np.nan)))
        return {"demographic_parity": _range(selected), "equalized_odds": odds}


def _range(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n_weightings,)`; NaN where fewer than two groups have a mean."""
    defined = ~np.isnan(means)
    high = np.where(defined, means, -np.inf).max(axis=1)
    low = np.where(defined, means, np.inf).min(axis=1)
    return np.where(defined.sum(axis=1) >= 2, high - low, np.nan)


def _fairness(
    label: str, outputs: NDArray[Any], targets: NDArray[Any], signature: Signature, groups: Compared
) -> dict[str, Any]:
    from fairlearn import metrics

    place = signature.labels.index(label)
    # fairlearn takes the rate of a group without such rows for 0: the groups that have both are compared.
    true, of_row = targets == place, groups.members.argmax(axis=1)
    asked: dict[str, Any] = {
        "y_true": true.astype(int),
        "y_pred": (outputs.argmax(axis=1) == place).astype(int),
        "sensitive_features": of_row,
    }
    both = [group for group in range(groups.members.shape[1]) if len(np.unique(true[of_row == group])) == 2]
    odds = np.isin(of_row, both)
    restricted = {name: values[odds] for name, values in asked.items()}
    enough = len(both) >= 2
    return {
        "demographic_parity": {
            "difference": float(metrics.demographic_parity_difference(**asked)),
            "ratio": number(float(metrics.demographic_parity_ratio(**asked))),
        },
        "equalized_odds": {
            "difference": float(metrics.equalized_odds_difference(**restricted)) if enough else None,
            "ratio": number(float(metrics.equalized_odds_ratio(**restricted))) if enough else None,
        },
    }


def _rates(
    outputs: NDArray[Any], targets: NDArray[Any], signature: Signature, positive_label: str | None
) -> dict[str, Any]:
    if signature.task == "regression":
        values = outputs[:, 0].astype(np.float64)
        return {"mean_prediction": float(values.mean()), "mean_truth": float(targets.mean())}
    if positive_label is None:
        return {}
    place = signature.labels.index(positive_label)
    predicted, true = outputs.argmax(axis=1) == place, targets == place
    return {
        "selection_rate": float(predicted.mean()),
        "positive_rate": float(true.mean()),
        "true_positive_rate": float(predicted[true].mean()) if true.any() else None,
        "false_positive_rate": float(predicted[~true].mean()) if not true.all() else None,
    }


def _worded(found: Distribution) -> dict[str, Any]:
    return {
        name: {"difference": number(found.whole[name]), "interval": rounded(found.interval(name))}
        for name in found.whole
    }


def _resampled(targets: NDArray[Any], signature: Signature, seed: int) -> Resampling:
    return Resampling.draw(len(targets), strata=targets if signature.task == "classification" else None, seed=seed)
