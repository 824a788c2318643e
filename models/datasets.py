"""The data sets a job can train on, and which rows train, validate and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.rows import ModelInput
from models.signature import Feature, FeatureKind, Signature, Task

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Builtin:
    """What is known of a built-in data set before it is loaded, so that a specification can be checked at once."""

    task: Task
    target: str
    kind: FeatureKind
    features: tuple[str, ...]
    labels: tuple[str, ...] = ()


_CELL_MEASURES = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip

BUILTINS: dict[str, Builtin] = {
    "digits": Builtin("classification", "digit", "image", ("image",), tuple("0123456789")),
    "breast_cancer": Builtin(
        "classification",
        "diagnosis",
        "numeric",
        (
            *(f"mean {measure}" for measure in _CELL_MEASURES),
            *(f"{measure} error" for measure in _CELL_MEASURES),
            *(f"worst {measure}" for measure in _CELL_MEASURES),
        ),
        ("malignant", "benign"),
    ),
    "diabetes": Builtin(
        "regression", "progression", "numeric", ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    ),
    "wine": Builtin(
        "classification",
        "class",
        "numeric",
        (
            "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
            "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines",
            "proline",
        ),
        ("class_0", "class_1", "class_2"),
    ),
    "iris": Builtin(
        "classification",
        "species",
        "numeric",
        ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
        ("setosa", "versicolor", "virginica"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """Rows in raw units.

    `inputs` is `(n_rows, *signature.input_shape)`; `targets` is `(n_rows,)`, class indices (int64) for a
    classification and target values (float32) for a regression. `row_digests` are the SHA-256 of each row's whole
    content, ignored columns and target included. `columns` keeps every raw column of a table, ignored ones too.
    """

    signature: Signature
    inputs: ModelInput
    targets: NDArray[Any]
    row_digests: tuple[bytes, ...]
    columns: Mapping[str, NDArray[np.float64]]

    @property
    def sha256(self) -> str:
        """A digest of the whole data set that does not depend on the order of its rows."""
        return hashlib.sha256(b"".join(sorted(self.row_digests))).hexdigest()


@dataclass(frozen=True, slots=True)
class Split:
    """Row indices of each part, ascending."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def load_builtin(name: str, ignored: Iterable[str] = ()) -> Dataset:
    """Loads one of scikit-learn's bundled data sets under its own feature names and in raw units."""
    from sklearn import datasets

    builtin = BUILTINS[name]
    bunch: Any = datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()
    ignored = tuple(ignored)
    targets = bunch.target.astype(np.int64 if builtin.labels else np.float32)
    if builtin.kind == "image":
        raw = bunch.images[..., np.newaxis]
        inputs = raw.astype(np.float32)
        features = (Feature("image", "image", inputs.shape[1:], (0.0, 16.0)),)
        columns: dict[str, NDArray[np.float64]] = {}
        contents = [np.ascontiguousarray(row, dtype="<f8").tobytes() for row in raw]
    else:
        columns = {feature: bunch.data[:, i].astype(np.float64) for i, feature in enumerate(builtin.features)}
        kept = [feature for feature in builtin.features if feature not in ignored]
        inputs = np.column_stack([columns[feature] for feature in kept]).astype(np.float32)
        features = tuple(
            Feature(feature, "numeric", (), (float(columns[feature].min()), float(columns[feature].max())))
            for feature in kept
        )
        # Sorted by name, so that neither the order of the columns nor ignoring one moves a row to another part.
        table = np.column_stack([columns[feature] for feature in sorted(columns)]).astype("<f8")
        contents = [row.tobytes() for row in table]
    signature = Signature(features, builtin.task, builtin.target, builtin.labels, ignored)
    digests = tuple(
        hashlib.sha256(content + str(target).encode()).digest()
        for content, target in zip(contents, bunch.target, strict=True)
    )
    return Dataset(signature, inputs, targets, digests, columns)


def split_dataset(dataset: Dataset, *, test: float, validation: float, by: str = "row") -> Split:
    """Assigns each row to a part by the SHA-256 of its content, or of its value in the column `by`.

    A row keeps its part whatever rows are added or removed, so that a test row is one for every version.
    """
    if by == "row":
        digests = dataset.row_digests
    else:
        digests = tuple(hashlib.sha256(value.tobytes()).digest() for value in dataset.columns[by].astype("<f8"))
    parts = np.array([assign_part(digest, test=test, validation=validation) for digest in digests])
    return Split(*(np.flatnonzero(parts == part) for part in ("train", "validation", "test")))


def assign_part(digest: bytes, *, test: float, validation: float) -> Part:
    """The part of a row: its digest read as a fraction of [0, 1), test first, then validation, then train."""
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    if fraction < test:
        return "test"
    return "validation" if fraction < test + validation else "train"
