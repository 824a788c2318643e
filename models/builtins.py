"""scikit-learn's bundled data sets: their facts, and their columns in raw units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.errors import Fault, InvalidSpec
from models.facts import DataFacts
from models.raw import RawColumn, RawData
from models.rows import describe
from models.signature import FeatureKind, Task
from models.sources.profile import number_in_words

_CELL_MEASURES = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip


def _columns(task: Task, target: str, features: tuple[str, ...], labels: tuple[str, ...] = ()) -> DataFacts:
    kinds: dict[str, FeatureKind] = dict.fromkeys(features, "numeric")
    possible: tuple[FeatureKind, ...] = ("numeric", "categorical")
    return DataFacts(task, target, kinds, labels, dict.fromkeys(features, possible))


BUILTINS: dict[str, DataFacts] = {
    "digits": DataFacts("classification", "digit", {"image": "image"}, tuple("0123456789")),
    "breast_cancer": _columns(
        "classification",
        "diagnosis",
        (
            *(f"mean {measure}" for measure in _CELL_MEASURES),
            *(f"{measure} error" for measure in _CELL_MEASURES),
            *(f"worst {measure}" for measure in _CELL_MEASURES),
        ),
        ("malignant", "benign"),
    ),
    "diabetes": _columns(
        "regression", "progression", ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    ),
    "wine": _columns(
        "classification",
        "class",
        (
            "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
            "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines",
            "proline",
        ),
        ("class_0", "class_1", "class_2"),
    ),
    "iris": _columns(
        "classification",
        "species",
        ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
        ("setosa", "versicolor", "virginica"),
    ),
}  # fmt: skip


def facts_of_builtin(name: str) -> DataFacts:
    """The facts of a built-in data set.

    Raises:
        InvalidSpec: when there is none of that name.
    """
    if name not in BUILTINS:
        expected = f"one of {', '.join(BUILTINS)}"
        raise InvalidSpec([Fault("#/dataset/builtin", expected, describe(name), "no such data set")])
    return BUILTINS[name]


def read_builtin(name: str, kinds: Mapping[str, FeatureKind] | None = None) -> RawData:
    """The columns of a built-in data set, its target last, under scikit-learn's own names.

    Args:
        kinds: of columns that are read as another kind than they have: numbers as categories.
    """
    facts, bunch = BUILTINS[name], load_bunch(name)
    columns: dict[str, RawColumn]
    if facts.whole_kind == "image":
        columns = {"image": RawColumn("image", bunch.images[..., np.newaxis].astype(np.float32), (0.0, 16.0))}
    else:
        columns = {
            feature: RawColumn("numeric", bunch.data[:, i].astype(np.float64))
            for i, feature in enumerate(facts.features)
        }
    if facts.labels:
        columns[facts.target] = RawColumn("categorical", np.array(facts.labels, dtype=object)[bunch.target])
    else:
        columns[facts.target] = RawColumn("numeric", bunch.target.astype(np.float64))
    for feature, kind in (kinds or {}).items():
        if kind == "categorical" != columns[feature].kind:
            words = [number_in_words(value) for value in columns[feature].values]
            columns[feature] = RawColumn("categorical", np.array(words, dtype=object))
    digests = row_digests(facts, bunch)
    return RawData(columns, len(digests), hashlib.sha256(b"".join(digests)).hexdigest(), digests)


def row_digests(facts: DataFacts, bunch: Any) -> tuple[bytes, ...]:
    """The SHA-256 of each row, columns sorted by name. A change of it would move rows to other parts."""
    if facts.whole_kind == "image":
        data = bunch.images[..., np.newaxis]
    else:
        data = bunch.data[:, sorted(range(len(facts.features)), key=facts.features.__getitem__)]
    rows = zip(np.ascontiguousarray(data, dtype="<f8"), bunch.target, strict=True)
    return tuple(hashlib.sha256(row.tobytes() + str(target).encode()).digest() for row, target in rows)


def load_bunch(name: str) -> Any:
    """scikit-learn's own object for a built-in data set, in raw units."""
    from sklearn import datasets

    return datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()
