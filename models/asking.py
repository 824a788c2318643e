"""From what was asked for to a specification that can be run: checked against its data and against the champion."""

from __future__ import annotations

from models.changes import Outline, outline_changes, predecessor_of, refuse_breaking
from models.registry import Registry
from models.sources.folder import DataFolder
from models.spec import TrainingSpec, fill_in


def made_whole(asked: TrainingSpec, folder: DataFolder, registry: Registry) -> TrainingSpec:
    """A specification filled in, when it fits its data and, unless it says otherwise, the champion's signature.

    Raises:
        InvalidSpec: naming every fault by JSON pointer.
        UnknownDataset, UnreadableData: when its data is not there, or cannot be read.
    """
    facts = folder.facts_of(asked)
    spec = fill_in(asked, facts)
    champion = predecessor_of(registry, spec.model)
    if champion is not None and spec.signature == "same":
        now = Outline.of(facts.with_features(spec.features))
        refuse_breaking(outline_changes(Outline.of(champion.signature), now), champion.version)
    return spec
