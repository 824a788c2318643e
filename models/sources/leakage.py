"""Features that alone predict the target: mostly the target itself under another name, or what is known only after it.

Measured, not guessed: how well a small decision tree on one feature predicts rows that it has not seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from models.raw import RawColumn

SUSPECTED_FROM = 0.995
"""ROC-AUC (classification) or R2 (regression) of one feature alone from which on it is suspected."""
MAX_ROWS = 4000
MAX_FEATURES = 200
DEPTH = 4
FOLDS = 3


def scores_alone(
    features: Mapping[str, RawColumn], target: RawColumn, *, seed: int = 0
) -> tuple[Literal["roc_auc", "r2"], dict[str, float]]:
    """How well each feature alone predicts the target: cross-validated ROC-AUC (the mean over labels) or R2.

    A decision tree of depth 4 in 3 folds, on a random sample of at most 4,000 rows, for the first 200 columns; words
    are replaced by the mean target of their rows in the other folds. A feature that cannot be judged is left out.

    Args:
        features: raw columns of the same length; images, series and texts are not judged.
        target: categorical (labels) or numeric.
    """
    metric: Literal["roc_auc", "r2"] = "roc_auc" if target.kind == "categorical" else "r2"
    rows = _sample(target, seed)
    judged = [name for name, column in features.items() if column.kind not in ("image", "series", "text")]
    found = {}
    for name in judged[:MAX_FEATURES]:
        score = _score(features[name], target.values[rows], rows, metric, seed)
        if score is not None:
            found[name] = round(score, 4)
    return metric, found


def suspected(scores: Mapping[str, float]) -> list[str]:
    """The features whose score alone is too good, best first."""
    return sorted((name for name, score in scores.items() if score >= SUSPECTED_FROM), key=lambda name: -scores[name])


def _sample(target: RawColumn, seed: int) -> NDArray[np.int64]:
    """Rows with a target; of labels only those with enough rows for every fold."""
    rows = np.flatnonzero(~target.missing)
    if len(rows) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))
    if target.kind == "categorical":
        labels, index, counts = np.unique(target.values[rows].astype(str), return_inverse=True, return_counts=True)
        del labels
        rows = rows[counts[index] >= FOLDS]
    return rows


def _score(column: RawColumn, target: NDArray[Any], rows: NDArray[np.int64], metric: str, seed: int) -> float | None:
    from sklearn.model_selection import KFold, StratifiedKFold

    values = column.values[rows]
    words = column.kind == "categorical"
    if not words:
        numbers = values.astype("datetime64[ms]").astype(np.float64) if column.kind == "date" else values
        numbers = np.where(column.missing[rows], np.nan, numbers).astype(np.float32).reshape(-1, 1)
        if np.isinf(numbers).any() or np.isnan(numbers).all():
            return None
    else:
        numbers = np.array(["\0" if value is None else value for value in values], dtype=object).reshape(-1, 1)
    labels, coded = np.unique(target.astype(str), return_inverse=True) if metric == "roc_auc" else ((), target)
    if len(rows) < 10 * FOLDS or (metric == "roc_auc" and len(labels) < 2):
        return None
    folds: Any = (StratifiedKFold if metric == "roc_auc" else KFold)(FOLDS, shuffle=True, random_state=seed)
    scores = []
    with warnings.catch_warnings():
        # Labels that a fold has few of are told by scikit-learn; the score says enough.
        warnings.simplefilter("ignore")
        for train, test in folds.split(numbers, coded):
            scores.append(_fold_score(numbers, coded, train, test, metric, words=words, seed=seed))
    return float(np.mean(scores))


def _fold_score(numbers: Any, target: Any, train: Any, test: Any, metric: str, *, words: bool, seed: int) -> float:
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.preprocessing import TargetEncoder
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    known, unknown = numbers[train], numbers[test]
    if words:
        kind = "continuous" if metric == "r2" else ("binary" if target.max() == 1 else "multiclass")
        encoder: Any = TargetEncoder(target_type=kind, random_state=cast(Any, seed))
        known, unknown = encoder.fit_transform(known, target[train]), encoder.transform(unknown)
    leaf = max(1, len(train) // 200)
    if metric == "r2":
        tree = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=leaf, random_state=seed)
        return float(r2_score(target[test], tree.fit(known, target[train]).predict(unknown)))
    classifier = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=leaf, random_state=seed)
    chances: Any = classifier.fit(known, target[train]).predict_proba(unknown)
    if chances.shape[1] == 2:
        return float(roc_auc_score(target[test], chances[:, 1]))
    return float(roc_auc_score(target[test], chances, multi_class="ovr", labels=classifier.classes_))
