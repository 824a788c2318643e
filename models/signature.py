"""What a version takes and gives: its features, task, labels and units."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Literal

FeatureKind = Literal["numeric", "boolean", "categorical", "date", "text", "image", "series"]
RowKind = Literal["columns", "text", "image", "series"]
Task = Literal["classification", "regression"]

PADDING, UNKNOWN_WORD, FIRST_WORD = 0, 1, 2
"""Codes of a text: what fills a row behind its words, a word that is not in the vocabulary, the vocabulary's first."""


@dataclass(frozen=True)
class Feature:
    """A raw input that a person names.

    Attributes:
        shape: `()` for a value of its own, `(height, width, channels)` for an image, `(steps, channels)` for a series,
            `(words,)` for a text: so many are read of it.
        value_range: what the training data spanned, in the units of the network's input (days since 1970 for a date,
            codes for categories and words). For an image it is the data set's declared scale, and values outside it
            are refused.
        nullable: whether it may be missing; of a series, single values.
        vocabulary: of a categorical feature its categories, of a text its words, both in the order of their codes.
        unseen: whether a category that is not in the vocabulary is taken: it has the code `len(vocabulary)`.
        buckets: of a categorical feature without a vocabulary: a category's code is one of so many, by its hash.
    """

    name: str
    kind: FeatureKind
    shape: tuple[int, ...]
    value_range: tuple[float, float]
    dtype: Literal["float32"] = "float32"
    nullable: bool = False
    vocabulary: tuple[str, ...] = ()
    unseen: bool = False
    buckets: int = 0

    def __post_init__(self) -> None:
        n_axes = {"image": 3, "series": 2, "text": 1}.get(self.kind, 0)
        if len(self.shape) != n_axes:
            raise ValueError(f"A {self.kind} feature has a shape of {n_axes} axes. Received: {self.shape}")
        if (self.kind == "categorical") != (bool(self.vocabulary) != bool(self.buckets)) and self.kind != "text":
            raise ValueError(f"A categorical feature has a vocabulary or buckets, and no other has. Received: {self}")

    @property
    def width(self) -> int:
        """Columns of the network's input that it takes."""
        return self.shape[0] if self.kind == "text" else 1

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code of each category or word of the vocabulary."""
        first = FIRST_WORD if self.kind == "text" else 0
        return {name: first + place for place, name in enumerate(self.vocabulary)}

    @property
    def n_codes(self) -> int:
        """How many codes a category or a word can have; a missing category has none."""
        if self.kind == "text":
            return FIRST_WORD + len(self.vocabulary)
        return self.buckets or len(self.vocabulary) + self.unseen


@dataclass(frozen=True)
class Signature:
    """The contract of a version: its features in order, its target, and what its outputs mean.

    A signature holds columns, of which texts are some (the network takes one matrix, `(n_rows, n_columns)`), or a
    single image (`(n_rows, height, width, channels)`), or a single series (`(n_rows, steps, channels)`).
    """

    features: tuple[Feature, ...]
    task: Task
    target: str
    labels: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    unit: str | None = None

    def __post_init__(self) -> None:
        kinds = {feature.kind for feature in self.features}
        if not kinds or (kinds & {"image", "series"} and len(self.features) != 1):
            raise ValueError(
                f"A signature holds columns, or one image or series. Received: {[f.kind for f in self.features]}"
            )
        if (self.task == "classification") != (len(self.labels) >= 2):
            raise ValueError(f"A {self.task} signature cannot have the labels {self.labels}.")

    @cached_property
    def kind(self) -> RowKind:
        """What a row is: columns, or one text, image or series."""
        first, *others = self.features
        if others:
            return "columns"
        kind = first.kind
        return kind if kind == "text" or kind == "image" or kind == "series" else "columns"

    @cached_property
    def image(self) -> Feature | None:
        """The one image feature, or None where a row is no image."""
        return self.features[0] if self.kind == "image" else None

    @cached_property
    def series(self) -> Feature | None:
        """The one series feature, or None where a row is no series."""
        return self.features[0] if self.kind == "series" else None

    @cached_property
    def text(self) -> Feature | None:
        """The one text feature, or None where a row is more than a text."""
        return self.features[0] if self.kind == "text" else None

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Of columns and texts: where each feature lies in a row."""
        ends = accumulate((feature.width for feature in self.features), initial=0)
        return tuple(slice(start, end) for start, end in pairwise(ends))

    @cached_property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row as the network takes it."""
        return self.features[0].shape if self.kind in ("image", "series") else (self.places[-1].stop,)

    @cached_property
    def row_values(self) -> int:
        """Numbers of one row as the network takes it."""
        return prod(self.input_shape)

    @cached_property
    def all_numeric(self) -> bool:
        """Whether every value is a number that is never missing."""
        return all(feature.kind == "numeric" and not feature.nullable for feature in self.features)

    @cached_property
    def fits_one_array(self) -> bool:
        """Whether a row is nothing but numbers, so that one array can hold rows as they are sent."""
        return all(feature.kind in ("numeric", "image", "series") for feature in self.features)

    @cached_property
    def is_continuous(self) -> bool:
        """Whether what lies between two rows means something to the network, so that it has gradients there: no code
        of a category or a word, no date (which is cut into parts), no missing value."""
        continuous = ("numeric", "boolean", "image", "series")
        return all(feature.kind in continuous and not feature.nullable for feature in self.features)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """What can be explained: the labels of a classification, the target of a regression."""
        return self.labels or (self.target,)

    @cached_property
    def n_network_outputs(self) -> int:
        """Units in the output layer: one for regression and for two labels (a sigmoid), else one a label."""
        return len(self.labels) if len(self.labels) > 2 else 1

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that can be explained; the first is the default."""
        return ("probability", "logit") if self.task == "classification" else ("value",)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> Signature:
        """A signature as `to_json` gave it; those of versions before 0.2 lack what only other kinds than numbers and
        images need."""
        features = tuple(
            Feature(
                name=feature["name"],
                kind=feature["kind"],
                shape=tuple(feature["shape"]),
                value_range=(feature["value_range"][0], feature["value_range"][1]),
                dtype=feature["dtype"],
                nullable=feature.get("nullable", False),
                vocabulary=tuple(feature.get("vocabulary", ())),
                unseen=feature.get("unseen", False),
                buckets=feature.get("buckets", 0),
            )
            for feature in document["features"]
        )
        return Signature(
            features=features,
            task=document["task"],
            target=document["target"],
            labels=tuple(document["labels"]),
            ignored=tuple(document["ignored"]),
            unit=document["unit"],
        )
