"""What is known of a file after one pass over it, whatever its target: the profile of each column, and of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from models.signature import FeatureKind

Decimal = Literal[".", ","]
Format = Literal["csv", "parquet", "npz", "images"]
MAX_CATEGORIES = 10_000
"""Categories that a column may have; more of them are asked about."""
MAX_VALUES = 1000
"""Distinct values of a column that a profile names: as many labels may a target have."""


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column of a file.

    `kind` is the inferred kind, None where the column is of none (`unfit` says why, and what to do). `possible` are
    the kinds that it can be read as. `distinct` is exact when `distinct_is_exact`: else there are at least so many.
    `values` are the most frequent values with their counts, up to `MAX_VALUES`. `figures` are of numeric columns and
    dates. `shape` is of an image or a series; 0 stands for sides of images that are of several sizes. `remarks` are for
    a person: an identifier that is suspected, a form that had to be guessed.
    """

    name: str
    kind: FeatureKind | None
    possible: tuple[FeatureKind, ...]
    missing: int = 0
    distinct: int = 0
    distinct_is_exact: bool = True
    values: tuple[tuple[str, int], ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    infinite: int = 0
    whole_numbers: bool = False
    identifier: bool = False
    shape: tuple[int, ...] = ()
    decimal: Decimal = "."
    date_form: str = ""
    unfit: str = ""
    cure: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """A whole file. `reading` says how it was read (encoding, delimiter), `target` the column that must be the target
    (the folders of images), if any. `remarks` are for a person."""

    format: Format
    sha256: str
    bytes: int
    rows: int
    columns: tuple[ColumnProfile, ...]
    duplicate_rows: int = 0
    reading: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def has_several_sizes(self) -> bool:
        """Whether its images are of several sizes, so that a specification must state one."""
        return any(0 in column.shape for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> ColumnProfile:
        return next(column for column in self.columns if column.name == name)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Profile:
        columns = tuple(
            ColumnProfile(
                **{
                    **column,
                    "possible": tuple(column["possible"]),
                    "values": tuple((value, count) for value, count in column["values"]),
                    "shape": tuple(column["shape"]),
                    "remarks": tuple(column["remarks"]),
                }
            )
            for column in document["columns"]
        )
        return Profile(**{**document, "columns": columns, "remarks": tuple(document["remarks"])})


def number_in_words(value: float) -> str:
    """A number as a label: 3 for 3.0."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
