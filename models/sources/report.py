"""What a person should know of a data set before a model is made of it: the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.raw import RawColumn, RawData
from models.sources.leakage import SUSPECTED_FROM, scores_alone, suspected
from models.sources.profile import ColumnProfile, Profile

SHOWN_VALUES = 10
FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which on a value is an outlier ("far out", Tukey 1977)."""
RARE_SHARE = 0.01
"""Of rows: a label below it is said to be rare."""
ALIKE_ROWS = 20_000
"""Rows on which columns are compared with each other, exactly."""


def describe_profile(profile: Profile) -> dict[str, Any]:
    """The report of a file as far as it does not depend on a target."""
    return {
        "format": profile.format,
        "sha256": profile.sha256,
        "bytes": profile.bytes,
        "rows": profile.rows,
        "duplicate_rows": profile.duplicate_rows,
        "reading": dict(profile.reading),
        "columns": [_describe_column(column, profile.rows) for column in profile.columns],
        "remarks": [*profile.remarks, *_remarks(profile)],
    }


def describe_data(raw: RawData, target: str, *, seed: int = 0) -> dict[str, Any]:
    """What can be said only of a target, or with all values at hand: class balance, outliers, columns that are alike,
    features that alone predict the target. Bounded: samples of some thousand rows where that is enough."""
    features = {name: column for name, column in raw.columns.items() if name != target}
    metric, scores = scores_alone(features, raw.columns[target], seed=seed)
    leaks, alike = suspected(scores), _alike(raw, seed)
    outliers = {
        name: found
        for name, column in features.items()
        if column.kind == "numeric" and (found := _outliers(column.values)) is not None
    }
    labels = _balance(raw.columns[target])
    remarks = [
        f"{name} alone predicts {target} ({metric} {scores[name]:.3f}): is it known before {target} is?"
        for name in leaks
    ]
    remarks += [f"{second} has the same values as {first}" for first, second in alike]
    if labels and (rare := [label for label, count in labels.items() if count < RARE_SHARE * raw.n_rows]):
        remarks.append(f"fewer than one row in a hundred has the label {', '.join(map(repr, rare[:10]))}")
    return {
        "target": target,
        "rows": raw.n_rows,
        **({"labels": labels} if labels else {"target_outliers": _outliers(raw.columns[target].values)}),
        "outliers": outliers,
        "alike": [list(pair) for pair in alike],
        "alone": {"metric": metric, "scores": dict(sorted(scores.items(), key=lambda item: -item[1]))},
        "suspected_leaks": leaks,
        "leak_limit": SUSPECTED_FROM,
        "remarks": remarks,
    }


def shared_rows(inputs: NDArray[np.float32], parts: Mapping[str, NDArray[np.int64]]) -> dict[str, int]:
    """How many rows of the validation and test parts have exactly the features of a row of the train part.

    Rows that are equal as a whole are in one part; these differ in the target or in columns that are ignored.
    """
    from models.sources.hashing import fast_hashes_of_arrays

    hashes = fast_hashes_of_arrays(inputs + np.float32(0.0))
    learned = hashes[parts["train"]]
    return {name: int(np.isin(hashes[parts[name]], learned).sum()) for name in ("validation", "test")}


def _describe_column(column: ColumnProfile, rows: int) -> dict[str, Any]:
    constant = column.distinct_is_exact and column.distinct == 1 and not column.shape
    return {
        "name": column.name,
        "kind": column.kind,
        "possible_kinds": list(column.possible),
        "missing": column.missing,
        "missing_share": round(column.missing / rows, 4) if not column.shape else None,
        "distinct": None if column.shape else column.distinct,
        "distinct_is_exact": column.distinct_is_exact,
        "constant": constant,
        "identifier": column.identifier,
        **({"shape": [size or None for size in column.shape]} if column.shape else {}),
        **({"figures": dict(column.figures)} if column.figures else {}),
        **({"values": dict(column.values[:SHOWN_VALUES])} if column.values and column.kind != "numeric" else {}),
        **({"fault": column.unfit, "cure": column.cure} if column.unfit else {}),
        "remarks": list(column.remarks),
    }


def _remarks(profile: Profile) -> list[str]:
    remarks = [f"{column.name} {remark}" for column in profile.columns for remark in column.remarks]
    if profile.duplicate_rows:
        remarks.append(f"{profile.duplicate_rows:,} rows are copies of others; all copies of a row are in one part")
    return remarks


def _balance(target: RawColumn) -> dict[str, int]:
    """Rows of each label, the most frequent first; empty for a regression."""
    if target.kind != "categorical":
        return {}
    labels, counts = np.unique(target.values.astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(labels[i]): int(counts[i]) for i in order}


def _outliers(values: NDArray[np.float64]) -> dict[str, Any] | None:
    """Values more than three interquartile ranges beyond the quartiles: how many, and the fences; None without one."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return None
    lower, upper = np.quantile(finite, (0.25, 0.75))
    low, high = float(lower - FENCE * (upper - lower)), float(upper + FENCE * (upper - lower))
    count = int(((finite < low) | (finite > high)).sum())
    # Where more than half of all values are equal, every other one would be beyond the fences.
    return {"count": count, "below": low, "above": high} if count and upper > lower else None


def _alike(raw: RawData, seed: int) -> list[tuple[str, str]]:
    """Pairs of columns with the same values in a sample of rows, the first of them with each of the others."""
    rows = np.arange(raw.n_rows)
    if raw.n_rows > ALIKE_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, ALIKE_ROWS, replace=False))
    first: dict[Any, str] = {}
    pairs = []
    for name, column in raw.columns.items():
        if column.kind in ("image", "series"):
            continue
        values = column.values[rows]
        key = (column.kind in ("categorical", "text"), tuple(values) if values.dtype == object else values.tobytes())
        if key in first:
            pairs.append((first[key], name))
        else:
            first[key] = name
    return pairs
