"""The report of a file for one target, before any specification says what to do with its other columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.sources.facts import facts_of
from models.sources.reading import Reading, read_raw
from models.sources.report import describe_data

if TYPE_CHECKING:
    from models.sources.folder import DataFolder
    from models.spec.data import DatasetSpec


def report_for_target(folder: DataFolder, dataset: DatasetSpec, target: str) -> dict[str, Any]:
    """What would be learned, and what is to be known of it. Columns that a specification must first decide about are
    left out.

    Raises:
        InvalidSpec: when the column cannot be a target.
    """
    profile = folder.profile(dataset)
    # Identifiers of words, and what is of no one kind: a specification names them "ignore", or a kind.
    undecided = {
        column.name: "ignore"
        for column in profile.columns
        if column.name != target
        and (column.unfit or column.infinite or (column.kind == "categorical" and _too_many(column)))
    }
    facts = facts_of(profile, target=target, features=undecided).with_features(undecided)
    reading = Reading(facts.kinds, facts.target, facts.task == "classification")
    raw = read_raw(folder.path_of(dataset), profile, reading)
    return {
        "task": facts.task,
        "labels": list(facts.labels),
        "features": dict(facts.kinds),
        "undecided": list(undecided),
        **describe_data(raw, facts.target),
    }


def _too_many(column: Any) -> bool:
    return column.identifier or not column.distinct_is_exact
