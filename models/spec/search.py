"""Which specifications a search tries: how many, by which measure, and from which space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from models.errors import Fault, pointer
from models.evaluation.names import METRICS
from models.facts import DataFacts
from models.rows import describe
from models.signature import Task
from models.spec.network import FITTING, shape_of
from models.spec.part import Part

DEFAULT_METRIC: dict[Task, str] = {"classification": "log_loss", "regression": "mse"}
DEPTH, WIDTH = "architecture.depth", "architecture.width"
"""Names for what `architecture.layers` becomes: so many layers, of so many units or filters."""
SEARCHED_PARTS = ("architecture", "regularization", "training", "preprocessing")


class RangeSpec(Part):
    """Numbers from `low` to `high`, both included; on a logarithmic scale with `log`; only whole ones for keys that
    take whole ones."""

    low: float
    high: float
    log: bool = False


class ChoicesSpec(Part):
    """One of a few values."""

    choices: Annotated[tuple[str | int | float | bool | None, ...], Field(min_length=1, max_length=100)]


def _kind(value: Any) -> str:
    has_choices = "choices" in value if isinstance(value, Mapping) else isinstance(value, ChoicesSpec)
    return "choices" if has_choices else "range"


Domain = Annotated[
    Annotated[RangeSpec, Tag("range")] | Annotated[ChoicesSpec, Tag("choices")],
    Discriminator(_kind),
]


class SearchSpec(Part):
    """A search by the tree-structured Parzen estimator. The best trial is fitted again and becomes the version.

    `metric` is measured on the validation part, never on the test part. With `pruning`, a trial that is
    worse at an epoch than the median of the others were is given up. After `minutes` no trial begins any more.
    """

    trials: Annotated[int, Field(ge=1, le=1000)] = 30
    metric: Annotated[str | None, Field(description="null: log_loss, or mse for a regression")] = None
    pruning: bool = True
    minutes: Annotated[float, Field(gt=0)] | None = None
    space: Annotated[
        dict[str, Domain] | None,
        Field(description="by dotted key of the specification; null: depth, width, rate and regularization"),
    ] = None


def default_space(facts: DataFacts) -> dict[str, Domain]:
    """What is searched where a specification names no space."""
    shape = shape_of(facts)
    widths = {"columns": (16, 256), "image": (8, 64), "sequence": (8, 128)}[shape]
    # Transformers can be asked for: they cost many times as much as the others.
    types = tuple(name for name in FITTING[shape] if name != "transformer")
    return {
        DEPTH: RangeSpec(low=1, high=4 if shape == "columns" else 3),
        WIDTH: RangeSpec(low=widths[0], high=widths[1], log=True),
        "regularization.dropout": RangeSpec(low=0, high=0.5),
        "regularization.l2": RangeSpec(low=1e-6, high=1e-2, log=True),
        "training.learning_rate": RangeSpec(low=3e-4, high=1e-2, log=True),
        **({"architecture.type": ChoicesSpec(choices=types)} if len(types) > 1 else {}),
    }


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """The value under a dotted key. Raises KeyError where there is none."""
    held: Any = document
    for name in path.split("."):
        if not isinstance(held, Mapping):
            raise KeyError(path)
        held = held[name]
    return held


def is_whole(path: str, document: Mapping[str, Any]) -> bool:
    """Whether a key takes whole numbers, in a specification with every default filled in."""
    held = 1 if path in (DEPTH, WIDTH) else value_at(document, path)
    return isinstance(held, int) and not isinstance(held, bool)


def whole_keys(search: SearchSpec, document: Mapping[str, Any]) -> dict[str, bool]:
    """By key of a search's space, whether it takes whole numbers."""
    return {path: is_whole(path, document) for path in search.space or {}}


def search_misfits(search: SearchSpec | None, document: Mapping[str, Any], facts: DataFacts) -> Iterator[Fault]:
    """Where a search cannot be made of a specification, given as a document with every default filled in."""
    if search is None:
        return
    if search.metric is not None and search.metric not in METRICS[facts.task]:
        yield Fault("#/search/metric", f"one of {', '.join(METRICS[facts.task])}", describe(search.metric))
    if search.space is not None and not search.space:
        yield Fault("#/search/space", "at least one key, or null", "an empty object")
    for path, domain in (search.space or {}).items():
        yield from _domain_misfits(path, domain, document)


def _domain_misfits(path: str, domain: Domain, document: Mapping[str, Any]) -> Iterator[Fault]:
    at = ("search", "space", path)
    if path not in (DEPTH, WIDTH):
        try:
            held = value_at(document, path)
        except KeyError:
            held = {}
        if path.split(".")[0] not in SEARCHED_PARTS or isinstance(held, Mapping | list):
            expected = f"{DEPTH}, {WIDTH}, or the dotted key of a single value in {', '.join(SEARCHED_PARTS)}"
            yield Fault(pointer(*at), expected, describe(path), "no such key")
            return
    if isinstance(domain, ChoicesSpec):
        return
    if domain.low > domain.high or (domain.log and domain.low <= 0):
        expected = "0 < low <= high on a logarithmic scale" if domain.log else "low <= high"
        yield Fault(pointer(*at), expected, f"low {domain.low:g}, high {domain.high:g}")
    elif is_whole(path, document) and not (domain.low.is_integer() and domain.high.is_integer()):
        yield Fault(pointer(*at), "whole numbers", f"low {domain.low:g}, high {domain.high:g}")
