"""Faults of a document that pydantic has refused, by JSON pointer and in our words."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterator, Mapping
from typing import Any, TypeVar, get_args

import orjson
from pydantic import BaseModel, ValidationError

from models.errors import Fault, InvalidSpec, pointer
from models.rows import describe

Document = TypeVar("Document", bound=BaseModel)


def read_as(kind: type[Document], document: Any) -> Document:
    """A document as a model of its keys, well-formed.

    Raises:
        InvalidSpec: naming every fault by JSON pointer.
    """
    if not isinstance(document, Mapping):
        raise InvalidSpec([Fault("#", "an object", describe(document))])
    try:
        return kind.model_validate_json(orjson.dumps(document))
    except orjson.JSONEncodeError:
        raise InvalidSpec([Fault("#", "an object nested less than 250 levels deep", describe(document))]) from None
    except ValidationError as error:
        raise InvalidSpec(faults_of(error, kind, document)) from None


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
    if error["type"].startswith("union_tag_"):
        return _to_fault_of_tag(error, place)
    if error["type"] == "extra_forbidden":
        known = _keys_at(root, place[:-1], document)
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"unknown key; did you mean {near[0]!r}?" if near else "unknown key"
        return Fault(where, "one of " + ", ".join(known) if known else "no such key", describe(error["input"]), hint)
    if error["type"] == "missing":
        return Fault(where, "a value", "nothing", "this key is required")
    return Fault(where, in_our_words(error), describe(error["input"]))


def _to_fault_of_tag(error: Any, place: list[int | str]) -> Fault:
    """A value whose branch of a union cannot be told: the key that names the branch is missing or unknown."""
    value, tag = error["input"], error["ctx"]["discriminator"].strip("'")
    if not isinstance(value, dict):
        return Fault(pointer(*place), "an object", describe(value))
    if error["type"] == "union_tag_not_found":
        return Fault(pointer(*place, tag), "a value", "nothing", "this key is required")
    expected = " or ".join(error["ctx"]["expected_tags"].rsplit(", ", 1))
    return Fault(pointer(*place, tag), expected, describe(value[tag]))


def in_our_words(error: Any) -> str:
    """What a pydantic error expected."""
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "an object"
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


def _keys_at(root: type[BaseModel], path: list[int | str], document: Any) -> list[str]:
    """The keys that a document of the model `root` may have at a place."""
    part, held = root, document
    options = [root]
    for name in path:
        held = held[name]
        # A name that is no field is a key of a mapping: what its field may hold is what each of its values may be.
        if (field := part.model_fields.get(str(name))) is not None:
            options = list(_models_in(field.annotation))
        part = next((option for option in options if _is_tagged(option, held)), None) or _nearest(options, held)
    return [field.alias or name for name, field in part.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _nearest(options: list[type[BaseModel]], value: dict[str, Any]) -> type[BaseModel]:
    """The branch of a union that has most of a document's keys."""
    return max(options, key=lambda option: len(option.model_fields.keys() & value.keys()))


def _is_tagged(option: type[BaseModel], value: dict[str, Any]) -> bool:
    """Whether a model is that branch of a union which the document has chosen by its `type`."""
    field = option.model_fields.get("type")
    return field is not None and value.get("type") in get_args(field.annotation)
