"""Raw data made by stated rules or from scikit-learn's sets: tables, texts, series; and versions built on it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.artifact import Artifact, open_artifact
from models.datasets import Dataset, column_bytes
from models.facts import DataFacts
from models.raw import RawColumn, RawData
from models.signature import FeatureKind
from models.spec.data import SplitSpec
from models.spec.preprocessing import PreprocessingSpec
from models.tables import dataset_of

CITIES = ("rome", "oslo", "paris", "lima")
EFFECT_OF_CITY = {"rome": 0.0, "oslo": 1.5, "paris": -1.5, "lima": 0.5, None: 0.0}
FRIENDLY, UNFRIENDLY = ("great", "happy", "thanks"), ("angry", "broken", "refund")
PLAIN = ("the", "parcel", "came", "on", "a", "monday", "with", "box", "and", "letter")


def raw_data(columns: Mapping[str, tuple[FeatureKind, NDArray[Any]]]) -> RawData:
    """Raw data of columns that were read from nowhere."""
    held = {name: RawColumn(kind, values) for name, (kind, values) in columns.items()}
    contents = zip(*(column_bytes(column.values) for column in held.values()), strict=True)
    digests = tuple(hashlib.sha256(b"".join(content)).digest() for content in contents)
    return RawData(held, len(digests), "none", digests)


def mixed_table(n_rows: int, seed: int = 0) -> RawData:
    """Orders of a shop, of which about one in six is returned.

    The log-odds of a return: -3.2 + (age - 40) / 10 + the effect of the city + 2 for a gift + 2 on a weekend
    - 2.5 x friendly words + 2.5 x unfriendly words; `noise` has no effect. A tenth of the ages, of the cities and of
    the notes are missing, and then add nothing.
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
        - 2.5 * np.array([tone(text) for text in note])
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


def text_table(n_rows: int, seed: int = 0) -> RawData:
    """Notes, each with one friendly or unfriendly word, which decides the `mood`, among plain ones."""
    rng = np.random.default_rng(seed)
    words = [*FRIENDLY, *UNFRIENDLY]
    decisive = rng.choice(len(words), n_rows)
    texts = []
    for place in decisive:
        text = list(rng.choice(PLAIN, rng.integers(2, 9)))
        text.insert(int(rng.integers(len(text))), words[place])
        texts.append((" ".join(text) + ".").capitalize())
    mood = np.array(["good" if place < len(FRIENDLY) else "bad" for place in decisive], dtype=object)
    return raw_data({"text": ("text", np.array(texts, dtype=object)), "mood": ("categorical", mood)})


def digit_series(n_labels: int = 3, *, missing: float = 0.0) -> RawData:
    """scikit-learn's digits read row by row: 8 steps of 8 channels; a part of the values punched out."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits(n_class=n_labels)
    rows = bunch.images.astype(np.float32)
    if missing:
        rows = np.where(np.random.default_rng(0).random(rows.shape) < missing, np.float32(np.nan), rows)
    labels = np.array([str(label) for label in bunch.target], dtype=object)
    return raw_data({"rows": ("series", rows), "digit": ("categorical", labels)})


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


def dataset(raw: RawData, target: str, labels: tuple[str, ...] = (), **preprocessing: Any) -> Dataset:
    """Raw data as it is learned with some preprocessing."""
    facts = facts_of(raw, target, labels)
    return dataset_of(raw, facts, SplitSpec(), PreprocessingSpec.model_validate_json(orjson.dumps(preprocessing)))


def write_csv(raw: RawData, path: Path) -> None:
    """A CSV file as a person would hand it over: empty cells, dates without times, true and false."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(raw.columns)
        cells = ([_cell(column.kind, value) for value in column.values] for column in raw.columns.values())
        writer.writerows(zip(*cells, strict=True))


def _cell(kind: FeatureKind, value: Any) -> str:
    if value is None or value != value:
        return ""
    if kind == "boolean":
        return "true" if value else "false"
    return str(value.astype("datetime64[D]")) if isinstance(value, np.datetime64) else str(value)


def build(document: dict[str, Any], folder: Path, directory: Path) -> Artifact:
    """Trains a version on a file of a folder."""
    # Imported late, so that tests that need no TensorFlow start without it.
    from models.building import Reporter, build_version
    from models.sources.folder import DataFolder
    from models.spec import parse_spec

    data = DataFolder(folder)
    build_version(parse_spec(document, data.facts_of), directory, Reporter(), data=data)
    return open_artifact(directory)


def mixed_artifact(folder: Path, directory: Path) -> Artifact:
    """A version of `mixed_table` that was trained on its CSV file."""
    write_csv(mixed_table(2000), folder / "orders.csv")
    return build(
        {
            "model": "orders",
            "dataset": {"path": "orders.csv"},
            "target": "returned",
            "features": {"note": "text"},
            "architecture": {"type": "mlp", "layers": [16]},
            "training": {"epochs": 20, "learning_rate": 0.02, "class_weight": "balanced"},
            "background": {"rows": 40},
        },
        folder,
        directory,
    )


def text_artifact(folder: Path, directory: Path) -> Artifact:
    """A version of `text_table` that was trained on its CSV file."""
    write_csv(text_table(400), folder / "moods.csv")
    return build(
        {
            "model": "moods",
            "dataset": {"path": "moods.csv"},
            "target": "mood",
            "features": {"text": "text"},
            "architecture": {"type": "mlp", "layers": [8]},
            "training": {"epochs": 15, "learning_rate": 0.02},
            "background": {"rows": 20},
        },
        folder,
        directory,
    )


def series_artifact(folder: Path, directory: Path) -> Artifact:
    """A version of `digit_series`, a fiftieth of its values missing, that was trained on an NPZ file."""
    raw = digit_series(missing=0.02)
    labels = raw.columns["digit"].values.astype(str)
    np.savez(folder / "strokes.npz", allow_pickle=False, X=raw.columns["rows"].values, y=labels)
    return build(
        {
            "model": "strokes",
            "dataset": {"path": "strokes.npz"},
            "architecture": {"type": "mlp", "layers": [16]},
            "training": {"epochs": 10, "learning_rate": 0.01},
            "background": {"rows": 20},
        },
        folder,
        directory,
    )
