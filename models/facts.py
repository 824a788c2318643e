"""What is known of a data set before it is loaded: its task, its target, what kind each feature is, its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from models.signature import FeatureKind, Task

WHOLE_KINDS: tuple[FeatureKind, ...] = ("image", "series")
"""Kinds of which a row holds one alone."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The facts that a specification is checked against, the same for built-in data and for files.

    `kinds` has each feature in the order of the data, without the target and the ignored columns. `possible` has for
    each column the kinds that its values can be read as, the inferred one first; `nullable` are the columns with
    missing values. `several_sizes` says that images are of several sizes: a specification states the one they become.
    """

    task: Task
    target: str
    kinds: Mapping[str, FeatureKind]
    labels: tuple[str, ...] = ()
    possible: Mapping[str, tuple[FeatureKind, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    nullable: frozenset[str] = frozenset()
    several_sizes: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the network is given, by name."""
        return tuple(self.kinds)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column beside the target, those that are ignored too."""
        return (*self.kinds, *self.ignored)

    @property
    def whole_kind(self) -> FeatureKind | None:
        """ "image" or "series" where a row is one, None for columns."""
        return next((kind for kind in self.kinds.values() if kind in WHOLE_KINDS), None)

    def kinds_of(self, column: str) -> tuple[FeatureKind, ...]:
        """The kinds that a column can be read as."""
        return self.possible.get(column) or (self.kinds[column],)

    def with_features(self, features: Mapping[str, str]) -> DataFacts:
        """The facts as the `features` of a specification change them: other kinds, ignored columns."""
        return replace(
            self,
            kinds={
                name: cast(FeatureKind, features.get(name, kind))
                for name, kind in self.kinds.items()
                if features.get(name) != "ignore"
            },
            ignored=(*self.ignored, *(name for name in self.kinds if features.get(name) == "ignore")),
        )
