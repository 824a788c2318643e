"""The report of a file for one target, before any specification says what to do with its other columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.signature import FeatureKind
from models.sources.facts import facts_of
from models.sources.limits import EXPANDED_LIMIT_BYTES
from models.sources.profile import ColumnProfile, Profile
from models.sources.reading import Reading, read_raw
from models.sources.report import describe_data


def report_for_target(
    path: Path, profile: Profile, target: str, *, expanded_limit_bytes: int = EXPANDED_LIMIT_BYTES
) -> dict[str, Any]:
    """What would be learned, and what is to be known of it. Columns that a specification must first decide about are
    left out.

    Raises:
        InvalidSpec: when the column cannot be a target.
    """
    # Identifiers of words, and what is of no one kind: a specification names them "ignore", or a kind.
    undecided = {
        column.name: "ignore"
        for column in profile.columns
        if column.name != target
        and (column.unfit or column.infinite or (column.kind == "categorical" and _too_many(column)))
    }
    facts = facts_of(profile, target=target, features=undecided).with_features(undecided)
    # Images of several sizes have none before a specification states one; nothing is said of their pixels here.
    kinds: dict[str, FeatureKind] = {
        name: kind for name, kind in facts.kinds.items() if not (kind == "image" and profile.has_several_sizes)
    }
    reading = Reading(kinds, facts.target, facts.task == "classification")
    raw = read_raw(path, profile, reading, expanded_limit_bytes=expanded_limit_bytes)
    return {
        "task": facts.task,
        "features": dict(facts.kinds),
        "undecided": list(undecided),
        **describe_data(raw, facts.target),
    }


def _too_many(column: ColumnProfile) -> bool:
    return column.identifier or not column.distinct_is_exact
