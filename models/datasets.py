"""The data sets a job can train on, and which rows train, validate and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.builtins import BUILTINS, read_builtin
from models.errors import InvalidDataset
from models.rows import ModelInput
from models.signature import Signature
from models.spec.data import SplitSpec
from models.spec.preprocessing import PreprocessingSpec

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Dataset:
    """Rows in raw units.

    `inputs` is `(n_rows, *signature.input_shape)`; `targets` is `(n_rows,)`, class indices (int64) for a
    classification and target values (float32) for a regression. `row_digests` are the SHA-256 of each row's whole
    content, ignored columns and target included. `columns` keeps the raw values of every column of a table,
    as `models/raw.py` has them, ignored ones too.
    """

    signature: Signature
    inputs: ModelInput
    targets: NDArray[Any]
    row_digests: tuple[bytes, ...]
    columns: Mapping[str, NDArray[Any]]

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
    """One of scikit-learn's bundled data sets, as a specification that says nothing else of it loads it."""
    from models.tables import dataset_of  # which is made of what is in this file

    facts = BUILTINS[name].with_features(dict.fromkeys(ignored, "ignore"))
    return dataset_of(read_builtin(name), facts, SplitSpec(), PreprocessingSpec())


def split_dataset(dataset: Dataset, *, test: float, validation: float, by: str = "row") -> Split:
    """Assigns each row to a part by the SHA-256 of its content, or of its value in the column `by`.

    A row keeps its part whatever rows are added or removed, so that a test row is one for every version.
    """
    values = None if by == "row" else column_bytes(dataset.columns[by])
    return split_rows(dataset.row_digests, test=test, validation=validation, by=values)


def split_rows(
    row_digests: Sequence[bytes], *, test: float, validation: float, by: Sequence[bytes] | None = None
) -> Split:
    """Assigns rows to parts by their digests, or by the SHA-256 of other content that is to stay together."""
    digests = row_digests if by is None else [hashlib.sha256(value).digest() for value in by]
    parts = np.array([assign_part(digest, test=test, validation=validation) for digest in digests])
    return Split(*(np.flatnonzero(parts == part) for part in ("train", "validation", "test")))


def check_every_part(split: Split, row_digests: Sequence[bytes]) -> None:
    """Raises `InvalidDataset` where a part has no rows."""
    for part in ("train", "validation", "test"):
        if len(getattr(split, part)) == 0:
            rows, different = len(row_digests), len(set(row_digests))
            copies = f", {different:,} of them different (copies of a row are in one part)," if different < rows else ""
            raise InvalidDataset(
                f"The {part} part has no rows: {rows:,} rows{copies} are too few for the split. Give more rows, or "
                'larger parts in "split".'
            )


def column_bytes(values: NDArray[Any]) -> list[bytes]:
    """The content of each value of a raw column, whatever library read it: numbers, dates, or strings and None."""
    if values.dtype.kind == "O":
        return [b"\x00" if value is None else b"\x01" + _with_length(value) for value in values]
    if values.dtype.kind == "M":
        return [value.tobytes() for value in values.astype("datetime64[ms]").astype("<i8")]
    # All NaN are one NaN.
    numbers = np.where(np.isnan(values), np.nan, values).astype("<f8")
    return [np.ascontiguousarray(value).tobytes() for value in numbers]


def _with_length(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return len(content).to_bytes(4, "little") + content


def digests_by(dataset: Dataset, by: str) -> tuple[bytes, ...]:
    """The SHA-256 of each row's content ("row"), or of its value in a column: rows of one group have the same."""
    if by == "row":
        return dataset.row_digests
    return tuple(hashlib.sha256(value).digest() for value in column_bytes(dataset.columns[by]))


def assign_part(digest: bytes, *, test: float, validation: float) -> Part:
    """The part of a row: its digest read as a fraction of [0, 1), test first, then validation, then train."""
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    if fraction < test:
        return "test"
    return "validation" if fraction < test + validation else "train"
