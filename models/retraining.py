"""A specification made of an earlier version's: `{"model": "m", "from": "champion", ...}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.artifact import open_version
from models.errors import Fault, InvalidSpec, UnknownModel, UnknownVersion
from models.registry import Registry, VersionRecord
from models.rows import describe

REPLACED = ("dataset",)
"""Keys whose value says where something is: parts of two such values together would name nothing."""


def resolve_from(document: Any, registry: Registry) -> Any:
    """A specification with what its `from` names filled in, and `from` as a number; others as they are.

    The keys of the earlier specification stay but for those that the document has. Where both have an object, the two
    are merged in the same way, key by key; everything else is replaced, null too. Two objects with a `type` that
    differs are not merged: the options of one say nothing of the other. `warm_start` is not taken over.

    Raises:
        InvalidSpec: when `from` is no version number or alias, or the model has no such version.
        CorruptVersion: when its card cannot be read.
    """
    if not isinstance(document, Mapping) or document.get("from") is None:
        return document
    record = _record(document, registry)
    earlier = {**open_version(record).card["spec"], "warm_start": False}
    return {**merged(earlier, document), "from": record.version}


def merged(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """`earlier` with the keys of `later` over it."""
    result = dict(earlier)
    for key, value in later.items():
        held = earlier.get(key)
        if key not in REPLACED and isinstance(value, Mapping) and isinstance(held, Mapping) and _alike(held, value):
            result[key] = merged(held, value)
        else:
            result[key] = value
    return result


def _alike(held: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "type" not in value or held.get("type") == value["type"]


def _record(document: Mapping[str, Any], registry: Registry) -> VersionRecord:
    model, version = document.get("model"), document["from"]
    if isinstance(version, bool) or not isinstance(version, int | str):
        raise InvalidSpec([Fault("#/from", "a version number or an alias", describe(version))])
    if not isinstance(model, str):
        raise InvalidSpec([Fault("#/model", "the name of the model to train again", describe(model))])
    try:
        return registry.model(model).resolve(str(version))
    except (UnknownModel, UnknownVersion) as error:
        raise InvalidSpec([Fault("#/from", "a version of the model", describe(version), str(error))]) from None
