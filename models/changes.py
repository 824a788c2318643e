"""What has changed from one version's signature to the data of the next, and what of it would break its clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.artifact import open_version
from models.errors import CorruptVersion, Fault, InvalidSpec, UnknownModel, UnknownVersion
from models.facts import DataFacts
from models.registry import Registry
from models.signature import Feature, Signature


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: what, as it was, as it is. `breaks` says that requests which were answered would be refused, or
    that answers would mean something else."""

    what: str
    was: str
    now: str
    breaks: bool

    def in_words(self) -> str:
        return f"{self.what}: was {self.was}, is {self.now}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The version that a new one would follow."""

    version: int
    signature: Signature


def predecessor_of(registry: Registry, model: str) -> Predecessor | None:
    """The champion of a model, or None where there is none yet, or its files cannot be read."""
    try:
        record = registry.model(model).resolve("champion")
        return Predecessor(record.version, open_version(record).signature)
    except (UnknownModel, UnknownVersion, CorruptVersion):
        return None


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a signature before the data is loaded."""

    target: str
    task: str
    labels: tuple[str, ...]
    kinds: Mapping[str, str]
    ignored: tuple[str, ...]

    @staticmethod
    def of(described: Signature | DataFacts) -> Outline:
        if isinstance(described, Signature):
            kinds = {feature.name: feature.kind for feature in described.features}
        else:
            kinds = dict(described.kinds)
        return Outline(described.target, described.task, described.labels, kinds, described.ignored)


def outline_changes(was: Outline, now: Outline) -> list[Change]:
    """Differences in target, task, labels and features. All of them break clients, but for a feature that is ignored
    now: it is still accepted in requests."""
    pairs = [
        ("target", was.target, now.target),
        ("task", was.task, now.task),
        ("labels", ", ".join(was.labels) or "none", ", ".join(now.labels) or "none"),
    ]
    changes = [Change(what, before, after, breaks=True) for what, before, after in pairs if before != after]
    for name, kind in was.kinds.items():
        after = now.kinds.get(name, "ignored" if name in now.ignored else "not there")
        if after != kind:
            changes.append(Change(f"feature {name}", kind, after, breaks=after != "ignored"))
    changes += [
        Change(f"feature {name}", "ignored" if name in was.ignored else "not there", kind, breaks=True)
        for name, kind in now.kinds.items()
        if name not in was.kinds
    ]
    before, after = (
        [name for name in names if name in was.kinds and name in now.kinds] for names in (was.kinds, now.kinds)
    )
    if before != after:
        changes.append(Change("order of the features", ", ".join(before), ", ".join(after), breaks=True))
    return changes


def changes_between(was: Signature, now: Signature) -> tuple[Change, ...]:
    """Every difference between two signatures, those that break clients first."""
    changes = outline_changes(Outline.of(was), Outline.of(now))
    held = {feature.name: feature for feature in now.features}
    for feature in was.features:
        if feature.name in held and held[feature.name].kind == feature.kind:
            changes += _changes_of(feature, held[feature.name])
    return tuple(sorted(changes, key=lambda change: not change.breaks))


def refuse_breaking(changes: Iterable[Change], champion: int) -> None:
    """Raises `InvalidSpec` where a change would break clients of the champion."""
    if breaking := [change.in_words() for change in changes if change.breaks]:
        raise InvalidSpec(
            [
                Fault(
                    "#/signature",
                    f"the signature of version {champion}, the champion",
                    "; ".join(breaking),
                    'requests that it answers would be refused or mean something else; "signature": "may-change" '
                    "trains all the same",
                )
            ]
        )


def _changes_of(was: Feature, now: Feature) -> list[Change]:
    name = f"feature {was.name}"
    changes = []
    if was.shape != now.shape:
        changes.append(Change(f"shape of {name}", _by(was.shape), _by(now.shape), breaks=True))
    if was.value_range != now.value_range:
        # Requests are held to the scale of an image; of a column it only says what was seen.
        narrower = was.kind == "image"
        changes.append(Change(f"range of {name}", _range(was), _range(now), breaks=narrower))
    return changes


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _range(feature: Feature) -> str:
    return f"{feature.value_range[0]:g} to {feature.value_range[1]:g}"
