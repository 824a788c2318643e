"""Which rows a job learns from: the data set, its features, its parts, its background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from models.errors import Fault, pointer
from models.facts import DataFacts
from models.rows import describe
from models.signature import Task
from models.spec.part import Part

FeatureKinds = dict[str, Literal["numeric", "boolean", "categorical", "date", "text", "image", "series", "ignore"]]


class DatasetSpec(Part):
    """Where the rows come from: one of the three."""

    builtin: str | None = None
    id: Annotated[str | None, Field(description="of an upload, as POST /datasets has answered it")] = None
    path: Annotated[
        str | None,
        Field(description="in the data folder of the server's home: of a file, or a folder of images in class folders"),
    ] = None

    @model_validator(mode="after")
    def _is_one(self) -> DatasetSpec:
        if sum(value is not None for value in (self.builtin, self.id, self.path)) != 1:
            raise PydanticCustomError("one_source", "exactly one of builtin, id, path")
        return self

    @model_serializer(mode="wrap")
    def _without_the_others(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class SplitSpec(Part):
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    by: Annotated[str, Field(description='"row", or a column whose rows stay together')] = "row"


class BackgroundSpec(Part):
    rows: Annotated[int, Field(ge=1, le=10_000)] = 100
    kind: Literal["sample"] = "sample"


def target_misfits(target: str | None, task: Task | None, facts: DataFacts) -> Iterator[Fault]:
    """Where target or task are not the data set's."""
    if target not in (None, facts.target):
        yield Fault("#/target", f"{facts.target!r}", describe(target))
    if task not in (None, facts.task):
        yield Fault("#/task", f"{facts.task!r}", describe(task))


def feature_misfits(features: Mapping[str, str], facts: DataFacts) -> Iterator[Fault]:
    """Where the kinds that a specification gives features are not those of the data set."""
    for name, kind in features.items():
        if name not in facts.features:
            expected = "a feature of the data set: " + ", ".join(facts.features)
            yield Fault(pointer("features", name), expected, "an unknown name")
        elif kind not in ("ignore", *facts.kinds_of(name)):
            expected = f"{', '.join(map(repr, facts.kinds_of(name)))} or 'ignore'"
            yield Fault(pointer("features", name), expected, describe(kind))
    if set(facts.features) <= {name for name, kind in features.items() if kind == "ignore"}:
        yield Fault("#/features", "at least one feature that is not ignored", "every feature ignored")


def split_misfits(split: SplitSpec, facts: DataFacts) -> Iterator[Fault]:
    """Where the parts cannot be made."""
    groups = ["row", *(() if facts.whole_kind else facts.columns)]
    if split.by not in groups:
        yield Fault("#/split/by", "one of " + ", ".join(groups), describe(split.by))
    if split.test + split.validation >= 1:
        yield Fault("#/split", "test + validation below 1", f"{split.test + split.validation:g} together")


def label_misfits(positive_label: str | None, facts: DataFacts) -> Iterator[Fault]:
    """Where the positive label is none of two."""
    if positive_label is not None and (len(facts.labels) != 2 or positive_label not in facts.labels):
        expected = f"one of {', '.join(facts.labels)}" if len(facts.labels) == 2 else "nothing: not two labels"
        yield Fault("#/positive_label", expected, describe(positive_label))


def sensitive_misfits(sensitive: Sequence[str], facts: DataFacts) -> Iterator[Fault]:
    """Where a sensitive feature is no column of the data set, or is named twice."""
    for place, name in enumerate(sensitive):
        whole = facts.whole_kind
        if whole or name not in facts.columns:
            held = f"nothing: {whole} data have no columns" if whole else ", ".join(facts.columns)
            yield Fault(pointer("sensitive", place), f"a column of the data set: {held}", "an unknown name")
        elif name in sensitive[:place]:
            yield Fault(pointer("sensitive", place), "each column once", describe(name))
