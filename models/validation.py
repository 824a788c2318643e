"""Faults of a document that pydantic has refused, by JSON pointer and in our words."""

from __future__ import annotations

import difflib
from collections.abc import Container
from typing import Any

from pydantic import BaseModel, ValidationError

from models.errors import Fault, pointer
from models.rows import describe


def faults_of(error: ValidationError, root: type[BaseModel], document: Any) -> list[Fault]:
    """Every fault of a document that should have been a `root`."""
    errors = error.errors(include_url=False)
    places = [error["loc"] for error in errors]
    # pydantic counts only the valid items of a list: too few of them is no fault beside the invalid ones.
    faults = [
        _to_fault(error, root, document)
        for error in errors
        if error["type"] != "too_short" or not any(_is_inside(place, error["loc"]) for place in places)
    ]
    # The branches of a union each report the same place: one fault for a place, naming all that was expected.
    merged: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        key = (fault.pointer, fault.received)
        held = merged.get(key)
        merged[key] = (
            Fault(held.pointer, f"{held.expected}, or {fault.expected}", held.received, held.detail) if held else fault
        )
    return list(merged.values())


def _is_inside(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _to_fault(error: Any, root: type[BaseModel], document: Any) -> Fault:
    place = _place_in(document, error["loc"], missing=error["type"] == "missing")
    where = pointer(*place)
    if error["type"] == "extra_forbidden":
        known = _keys_at(root, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"unknown key; did you mean {near[0]!r}?" if near else "unknown key"
        return Fault(where, "one of " + ", ".join(known) if known else "no such key", describe(error["input"]), hint)
    if error["type"] == "missing":
        return Fault(where, "a value", "nothing", "this key is required")
    return Fault(where, in_our_words(error), describe(error["input"]))


def in_our_words(error: Any) -> str:
    """What a pydantic error expected."""
    if error["type"] == "too_short":
        return f"at least {error['ctx']['min_length']} items"
    return error["msg"].removeprefix("Input should be ")


def _place_in(document: Any, path: tuple[int | str, ...], *, missing: bool) -> list[int | str]:
    """The parts of pydantic's path that are keys of the document: the others name branches of unions."""
    place: list[int | str] = []
    held: Any = document
    for part in path:
        if part in _keys_of(held):
            held = held[part]
        elif not (missing and part is path[-1]):
            continue
        place.append(part)
    return place


def _keys_of(value: Any) -> Container[int | str]:
    if isinstance(value, dict):
        return value.keys()
    return range(len(value)) if isinstance(value, list) else ()


def _keys_at(root: type[BaseModel], path: list[int | str]) -> list[str]:
    """The keys that a document of the model `root` may have at a place."""
    part = root
    for name in path:
        annotation = part.model_fields[str(name)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        part = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(part.model_fields)
