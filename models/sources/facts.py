"""From the profile of a file and a specification to the facts that the specification is checked against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from models.errors import Fault, InvalidSpec, pointer
from models.facts import DataFacts
from models.rows import describe
from models.signature import FeatureKind, Task
from models.sources.profile import MAX_CATEGORIES, MAX_VALUES, ColumnProfile, Profile, number_in_words

COUNTED_LABELS = 10
"""Whole numbers up to which a target is taken for labels: more of them, and it is a quantity."""
DEFAULT_TARGETS = ("y",)
"""Arrays of an NPZ file that are the target where none is named."""
_SHOWN = 20
_UNREADABLE: FeatureKind = "text"
"""Of an ignored column that is of no kind."""


def facts_of(
    profile: Profile, *, target: str | None, features: Mapping[str, str], task: Task | None = None
) -> DataFacts:
    """What a file holds for a specification that names a target and changes the kinds of features.

    Raises:
        InvalidSpec: naming each column that cannot be what it should be, with what to write instead.
    """
    name = _target_name(profile, target)
    column = profile.column(name)
    task = task or infer_task(column)
    labels = _labels(column) if task == "classification" else ()
    faults = [*_target_faults(column, profile, task, labels), *_feature_faults(profile, name, features)]
    if faults:
        raise InvalidSpec(faults)
    others = [one for one in profile.columns if one.name != name]
    return DataFacts(
        task=task,
        target=name,
        # A column that only an override makes usable is of the kind that the override says.
        kinds={one.name: one.kind or _only_kind(one, features) for one in others},
        labels=labels,
        possible={one.name: one.possible for one in others},
        nullable=frozenset(
            one.name for one in others if one.missing or (one.kind is None and features.get(one.name) == "numeric")
        ),
        several_sizes=profile.has_several_sizes,
    )


def infer_task(column: ColumnProfile) -> Task:
    """Words and truth values are labels; so are a few whole numbers."""
    if column.kind != "numeric":
        return "classification"
    few = column.whole_numbers and column.distinct_is_exact and column.distinct <= COUNTED_LABELS
    return "classification" if few else "regression"


def _target_name(profile: Profile, target: str | None) -> str:
    if target is None:
        found = profile.target or next((name for name in DEFAULT_TARGETS if name in profile.names), None)
        if found is None or profile.format in ("csv", "parquet"):
            raise InvalidSpec([Fault("#/target", _one_of(profile), "nothing", "this key is required for this data")])
        return found
    if profile.target not in (None, target):
        detail = "the label of an image is its folder"
        raise InvalidSpec([Fault("#/target", f"{profile.target!r}", describe(target), detail)])
    if target not in profile.names:
        raise InvalidSpec([Fault("#/target", _one_of(profile), describe(target), "no such column")])
    return target


def _one_of(profile: Profile) -> str:
    more = len(profile.names) - _SHOWN
    return "a column of the data: " + ", ".join(profile.names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _labels(column: ColumnProfile) -> tuple[str, ...]:
    """The labels of a target in order: numbers by size, words by alphabet."""
    if column.kind == "numeric":
        return tuple(
            number_in_words(number) for number in sorted({_number(value, column) for value, _ in column.values})
        )
    words = {value.lower() if column.kind == "boolean" else value for value, _ in column.values}
    return tuple(sorted(words))


def _number(text: str, column: ColumnProfile) -> float:
    return float(text.replace(",", ".") if column.decimal == "," else text)


def _target_faults(column: ColumnProfile, profile: Profile, task: Task, labels: tuple[str, ...]) -> Iterator[Fault]:
    present = profile.rows - column.missing
    if column.shape:
        yield Fault("#/target", "a column of numbers or labels", f"{column.kind} rows of shape {column.shape}")
    elif present == 0:
        received = f"{column.name!r}, which is missing in every row"
        yield Fault("#/target", "a column with values", received, "give its values, or name another target")
    elif column.unfit:
        yield Fault("#/target", "numbers or labels", f"{column.name!r}: {column.unfit}", "correct these values")
    elif task == "regression":
        if column.kind != "numeric":
            yield Fault(
                "#/target", "numbers", f"{column.name!r}, a {column.kind} column", 'or "task": "classification"'
            )
        elif column.infinite:
            yield Fault("#/target", "finite numbers", f"{column.infinite:,} infinite values in {column.name!r}",
                        "correct these rows, or leave their target empty: such rows are left out")  # fmt: skip
        elif column.figures["min"] == column.figures["max"]:
            yield Fault("#/target", "a target that varies", f"{column.name!r}, {column.figures['min']:g} in every row",
                        "add rows with other values, or name another target")  # fmt: skip
    elif column.kind == "date":
        yield Fault("#/target", "numbers or labels", f"{column.name!r}, a column of dates", "name another target")
    elif column.distinct > MAX_VALUES or not column.distinct_is_exact or (column.identifier and present > MAX_VALUES):
        yield Fault(
            "#/target", f"at most {MAX_VALUES:,} labels",
            f"{column.name!r} with {_how_many(column)} different values in {present:,} rows",
            "name another target" + (', or "task": "regression"' if column.kind == "numeric" else ""),
        )  # fmt: skip
    elif column.kind == "numeric" and not column.values:
        yield Fault(
            "#/target", "whole numbers or words as labels", f"fractions in {column.name!r}", '"task": "regression"'
        )
    elif len(labels) == 1:
        yield Fault(
            "#/target", "at least two labels", f"{column.name!r}, which is {labels[0]!r} in all {present:,} rows",
            "add rows with other labels, or name another target",
        )  # fmt: skip


def _feature_faults(profile: Profile, target: str, features: Mapping[str, str]) -> Iterator[Fault]:
    for column in profile.columns:
        asked = features.get(column.name)
        if column.name == target or asked == "ignore" or (asked and asked not in column.possible):
            continue  # an impossible kind is named with those that are possible
        place = pointer("features", column.name)
        if column.unfit and not (asked and column.possible):
            yield Fault(place, "values of one kind that can be read", column.unfit, column.cure)
            continue
        kind = asked or column.kind
        if column.infinite and kind in ("numeric", "image", "series"):
            yield Fault(place, "finite numbers", f"{column.infinite:,} infinite values",
                        f"correct them, leave them empty, or {_ignoring(column)}")  # fmt: skip
        if kind == "image" and column.missing:
            yield Fault(
                place, "images without gaps", f"{column.missing:,} missing numbers in them",
                "fill them in, or leave out the images that have any",
            )  # fmt: skip
        if kind == "image" and column.figures and column.figures["min"] == column.figures["max"]:
            yield Fault(place, "images with something on them", f"{column.figures['min']:g} in every pixel of them all")
        if kind == "categorical" and (column.distinct > MAX_CATEGORIES or not column.distinct_is_exact):
            yield Fault(place, f"at most {MAX_CATEGORIES:,} categories", f"{_how_many(column)} different values",
                        f"an identifier? {_ignoring(column)}")  # fmt: skip
        elif kind == "categorical" and column.identifier and not asked:
            yield Fault(
                place, "categories that occur again", f"{_how_many(column)} values in as many rows: an identifier",
                f'{_ignoring(column)}; "categorical" takes it all the same',
            )  # fmt: skip


def _ignoring(column: ColumnProfile) -> str:
    return f'leave it out: "features": {{"{column.name}": "ignore"}}'


def _how_many(column: ColumnProfile) -> str:
    return f"{'' if column.distinct_is_exact else 'more than '}{column.distinct:,}"


def _only_kind(column: ColumnProfile, features: Mapping[str, str]) -> FeatureKind:
    """A kind for a column that none was inferred for, which a specification therefore overrides or ignores."""
    asked = features.get(column.name)
    if asked in column.possible:
        return cast(FeatureKind, asked)
    return column.possible[0] if column.possible else _UNREADABLE
