"""Which rows a job learns from: the data set, its features, its parts, its background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from models.datasets import Builtin
from models.errors import Fault, pointer
from models.rows import describe
from models.spec.part import Part

FeatureKinds = dict[str, Literal["numeric", "image", "ignore"]]


class DatasetSpec(Part):
    builtin: str


class SplitSpec(Part):
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    by: Annotated[str, Field(description='"row", or a column whose rows stay together')] = "row"


class BackgroundSpec(Part):
    rows: Annotated[int, Field(ge=1, le=10_000)] = 100
    kind: Literal["sample"] = "sample"


def target_misfits(target: str | None, builtin: Builtin) -> Iterator[Fault]:
    """Where the target is not the data set's."""
    if target not in (None, builtin.target):
        yield Fault("#/target", f"{builtin.target!r}", describe(target))


def feature_misfits(features: Mapping[str, str], builtin: Builtin) -> Iterator[Fault]:
    """Where the kinds that a specification gives features are not those of the data set."""
    for name, kind in features.items():
        if name not in builtin.features:
            expected = "a feature of the data set: " + ", ".join(builtin.features)
            yield Fault(pointer("features", name), expected, "an unknown name")
        elif kind not in ("ignore", builtin.kind):
            yield Fault(pointer("features", name), f"{builtin.kind!r} or 'ignore'", describe(kind))
    if set(builtin.features) <= {name for name, kind in features.items() if kind == "ignore"}:
        yield Fault("#/features", "at least one feature that is not ignored", "every feature ignored")


def split_misfits(split: SplitSpec, builtin: Builtin) -> Iterator[Fault]:
    """Where the parts cannot be made."""
    if split.by != "row" and (builtin.kind == "image" or split.by not in builtin.features):
        groups = ["row"] if builtin.kind == "image" else ["row", *builtin.features]
        yield Fault("#/split/by", "one of " + ", ".join(groups), describe(split.by))
    if split.test + split.validation >= 1:
        yield Fault("#/split", "test + validation below 1", f"{split.test + split.validation:g} together")


def label_misfits(positive_label: str | None, builtin: Builtin) -> Iterator[Fault]:
    """Where the positive label is none of two."""
    if positive_label is not None and (len(builtin.labels) != 2 or positive_label not in builtin.labels):
        expected = f"one of {', '.join(builtin.labels)}" if len(builtin.labels) == 2 else "nothing: not two labels"
        yield Fault("#/positive_label", expected, describe(positive_label))


def sensitive_misfits(sensitive: Sequence[str], builtin: Builtin) -> Iterator[Fault]:
    """Where a sensitive feature is no column of the data set, or is named twice."""
    for place, name in enumerate(sensitive):
        if builtin.kind == "image" or name not in builtin.features:
            held = "nothing: an image has no columns" if builtin.kind == "image" else ", ".join(builtin.features)
            yield Fault(pointer("sensitive", place), f"a column of the data set: {held}", "an unknown name")
        elif name in sensitive[:place]:
            yield Fault(pointer("sensitive", place), "each column once", describe(name))
