"""From what a trial draws to the specification that it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from models.errors import Fault, pointer
from models.rows import describe
from models.spec.part import Part
from models.spec.search import DEPTH, WIDTH, ChoicesSpec, Domain, RangeSpec, is_whole, value_at

Parameters = Mapping[str, Any]
"""By dotted key, as a trial has drawn them."""
Specification = TypeVar("Specification", bound=Part)


def proposed(spec: Specification, parameters: Parameters) -> Specification:
    """The specification with the drawn values in place, and without the search.

    A width stands for every layer; in a convolutional network each block has twice the filters of the one before.
    When another type of network is drawn, only its layers are kept, and the rest is that type's default.

    Raises:
        pydantic.ValidationError: when the values cannot stand together.
    """
    document = spec.model_dump(mode="json")
    document["search"] = None
    held = document["architecture"]["type"]
    for path, value in parameters.items():
        if path not in (DEPTH, WIDTH):
            *parents, name = path.split(".")
            (value_at(document, ".".join(parents)) if parents else document)[name] = value
    architecture = document["architecture"]
    if DEPTH in parameters or WIDTH in parameters:
        architecture["layers"] = _layers(architecture, parameters)
    if architecture["type"] != held:
        document["architecture"] = {name: architecture[name] for name in ("type", "layers")}
    return type(spec).model_validate_json(orjson.dumps(document))


def _layers(architecture: Mapping[str, Any], parameters: Parameters) -> list[int]:
    layers = architecture["layers"]
    depth, width = parameters.get(DEPTH, len(layers)), parameters.get(WIDTH, layers[0])
    doubling = architecture["type"].startswith("cnn")
    return [width * 2**block if doubling else width for block in range(depth)]


def space_misfits(spec: Part, space: Mapping[str, Domain]) -> Iterator[Fault]:
    """Where an end of a range, or a choice, is no value for its key in a specification with every default filled in."""
    document = spec.model_dump(mode="json")
    for path, domain in space.items():
        for place, value in _candidates(domain, whole=is_whole(path, document)):
            try:
                proposed(spec, {path: value})
            except ValidationError as error:
                expected = error.errors(include_url=False)[0]["msg"].removeprefix("Input should be ")
                yield Fault(pointer("search", "space", path, *place), expected, describe(value))


def _candidates(domain: Domain, *, whole: bool) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The values that a domain is judged by, each with its place in it."""
    match domain:
        case ChoicesSpec(choices=choices):
            yield from ((("choices", place), value) for place, value in enumerate(choices))
        case RangeSpec(low=low, high=high):
            yield from (((name,), int(end) if whole else end) for name, end in (("low", low), ("high", high)))
