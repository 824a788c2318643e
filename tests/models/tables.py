"""Tables, texts and series made by stated rules or from scikit-learn's data, as raw data, and versions built on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import Artifact, open_artifact
from models.datasets import Dataset, column_bytes
from models.facts import DataFacts
from models.raw import RawColumn, RawData
from models.signature import FeatureKind
from models.spec import TrainingSpec
from models.spec.data import DatasetSpec
from models.tables import dataset_of

CITIES = ("rome", "oslo", "paris", "lima")
EFFECT_OF_CITY = {"rome": 0.0, "oslo": 1.5, "paris": -1.5, "lima": 0.5, None: 0.0}
FRIENDLY, UNFRIENDLY = ("great", "happy", "thanks"), ("angry", "broken", "refund")
PLAIN = ("the", "parcel", "came", "on", "a", "monday", "with", "box", "and", "letter")


def raw_data(columns: Mapping[str, tuple[FeatureKind, NDArray[Any]]]) -> RawData:
    """Raw data of columns that were read from nowhere."""
    held = {name: RawColumn(kind, values) for name, (kind, values) in columns.items()}
    contents = zip(*(column_bytes(held[name].values) for name in sorted(held)), strict=True)
    digests = tuple(hashlib.sha256(b"".join(row)).digest() for row in contents)
    return RawData(held, len(digests), "none", digests)


def mixed_table(n_rows: int, seed: int = 0) -> RawData:
    """Orders of a shop, of which about one in six is returned.

    The log-odds of a return: -3.2 + (age - 40) / 10 + the effect of the city + 2 for a gift + 2 on a weekend
    - 1.2 x friendly words + 1.2 x unfriendly words; `noise` has no effect. A tenth of the ages, a tenth of the cities and
    a tenth of the notes are missing, and then add nothing.
    """
    rng = np.random.default_rng(seed)
    age = np.where(rng.random(n_rows) < 0.1, np.nan, rng.normal(40, 12, n_rows).round())
    city = np.array([*CITIES, None], dtype=object)[rng.choice(5, n_rows, p=[0.4, 0.2, 0.2, 0.1, 0.1])]
    gift = (rng.random(n_rows) < 0.2).astype(float)
    ordered = np.datetime64("2023-01-01", "ms") + rng.integers(0, 700, n_rows) * np.timedelta64(86_400_000, "ms")
    note = np.array([_note(rng) for _ in range(n_rows)], dtype=object)
    log_odds = (
        -3.2
        + np.nan_to_num((age - 40) / 10)
        + np.array([EFFECT_OF_CITY[name] for name in city])
        + 2 * gift
        + 2 * is_weekend(ordered)
        - 1.2 * np.array([tone(text) for text in note])
    )
    returned = rng.random(n_rows) < 1 / (1 + np.exp(-log_odds))
    return raw_data(
        {
            "age": ("numeric", age),
            "city": ("categorical", city),
            "gift": ("boolean", gift),
            "ordered": ("date", ordered),
            "note": ("text", note),
            "noise": ("numeric", rng.normal(size=n_rows)),
            "returned": ("categorical", np.where(returned, "yes", "no").astype(object)),
        }
    )


def is_weekend(dates: NDArray[Any]) -> NDArray[np.bool_]:
    # 1970-01-01 was a Thursday.
    return (dates.astype("datetime64[D]").astype(int) + 3) % 7 >= 5


def tone(text: str | None) -> int:
    """Friendly words less unfriendly ones."""
    words = (text or "").lower().replace(",", " ").replace(".", " ").split()
    return sum((word in FRIENDLY) - (word in UNFRIENDLY) for word in words)


def _note(rng: np.random.Generator) -> str | None:
    if rng.random() < 0.1:
        return None
    words = list(rng.choice(PLAIN, rng.integers(2, 7)))
    if rng.random() < 0.5:
        words.insert(int(rng.integers(len(words))), str(rng.choice([*FRIENDLY, *UNFRIENDLY])))
    return (" ".join(words) + ".").capitalize()


def facts_of(raw: RawData, target: str, labels: tuple[str, ...] = ()) -> DataFacts:
    kinds = {name: column.kind for name, column in raw.columns.items() if name != target}
    return DataFacts("classification" if labels else "regression", target, kinds, labels)


def specification(**parts: Any) -> TrainingSpec:
    """A specification whose data set is given by hand; what its name stands for is not looked at."""
    return TrainingSpec.model_validate(
        {
            "model": "m",
            "dataset": DatasetSpec(builtin="digits"),
            "architecture": {"type": "mlp", "layers": (32, 16)},
            "training": {"epochs": 30, "learning_rate": 3e-3},
            **parts,
        }
    )


def dataset(raw: RawData, target: str, labels: tuple[str, ...] = (), spec: TrainingSpec | None = None) -> Dataset:
    spec = spec or specification()
    return dataset_of(raw, facts_of(raw, target, labels), spec.split, spec.preprocessing)


def build(spec: TrainingSpec, held: Dataset, directory: Path) -> Artifact:
    """A version of a data set that was made by hand."""
    # Imported late, so that tests that need no TensorFlow start without it.
    from models import building

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "load_dataset", lambda _: held)
        building.build_version(spec, directory, building.Reporter())
    return open_artifact(directory)
