"""What records may hold of the values that were predicted or explained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from models.signature import Signature


@dataclass(frozen=True, slots=True)
class Keeping:
    """The rule of one server.

    Attributes:
        inputs: whether records hold inputs at all.
        redacted: names of features and other columns whose values no record holds, of whatever model.
    """

    inputs: bool = True
    redacted: frozenset[str] = frozenset()

    def hidden(self, signature: Signature) -> tuple[str, ...]:
        """The features of a version whose values are left out."""
        return tuple(name for name in signature.feature_names if name in self.redacted)


def redacted_rows(sent: bytes, keeping: Keeping, signature: Signature) -> list[Any] | None:
    """The `inputs` of a JSON body without what is redacted, in their own forms.

    A mapping loses the names (columns that are no features too), a list in signature order has null in their places.
    None where nothing may be left: a row that is nothing but a redacted feature, or a body in another form.
    """
    document = orjson.loads(sent)
    rows = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        return None
    names = signature.feature_names
    places = {place for place, name in enumerate(names) if name in keeping.redacted}
    kept = []
    for row in rows:
        # One that is an encoded image, `{"b64": ...}`, names no feature: it is the value itself.
        if isinstance(row, dict) and (signature.kind == "columns" or names[0] in row):
            kept.append({name: value for name, value in row.items() if name not in keeping.redacted})
        elif signature.kind == "columns" and isinstance(row, list) and len(row) == len(names):
            kept.append([None if place in places else value for place, value in enumerate(row)])
        elif signature.kind == "columns" or places:
            return None
        else:
            kept.append(row)
    return kept


def without_values(target: dict[str, Any], hidden: Collection[str] | None) -> dict[str, Any]:
    """A target of an explanation that does not say the values of some features; None hides those of all."""
    if "attributions" not in target:
        return target
    return target | {
        "attributions": [
            {key: None if key in ("value", "token") else part for key, part in share.items()}
            if hidden is None or share["feature"] in hidden
            else share
            for share in target["attributions"]
        ]
    }
