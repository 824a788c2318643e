"""Which versions are loaded before they are asked for, which of those stay, and what readiness waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.errors import UnknownVersion
from models.registry import CHAMPION, ModelRecord

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Preload:
    """What the setting says.

    Attributes:
        everything: every version with an alias is loaded as long as there is room, and makes room for others.
        named: models, each with an alias or a number. They are loaded first, stay, and readiness waits for them.
    """

    everything: bool
    named: tuple[tuple[str, str], ...]

    @staticmethod
    def of(entries: Sequence[str]) -> Preload:
        named = [entry.partition("@") for entry in entries if entry != EVERYTHING]
        return Preload(EVERYTHING in entries, tuple((model, version or CHAMPION) for model, _, version in named))

    def pinned(self, known: Mapping[str, ModelRecord]) -> set[tuple[str, int]]:
        """The numbers of the versions that are named, as far as they exist now."""
        found = set()
        for model, version in self.named:
            try:
                found.add((model, known[model].resolve(version).version))
            except (KeyError, UnknownVersion):
                continue
        return found


def in_words(model: str, version: str) -> str:
    """What is said of a version that readiness waits for."""
    if version == CHAMPION:
        return f"{model} has no champion that can be served yet"
    return f"{model}@{version} cannot be served yet"
