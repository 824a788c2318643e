"""Which network is fitted, and what keeps it from learning its rows by heart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from models.errors import Fault
from models.facts import DataFacts
from models.spec.part import Part


class ArchitectureSpec(Part):
    type: Literal["mlp", "cnn"]
    layers: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=16)]
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"


class RegularizationSpec(Part):
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    l1: Annotated[float, Field(ge=0)] = 0.0
    l2: Annotated[float, Field(ge=0)] = 1e-4


def default_architecture(facts: DataFacts) -> ArchitectureSpec:
    """The network for a data set whose specification names none."""
    if facts.whole_kind == "image":
        return ArchitectureSpec(type="cnn", layers=(32, 64))
    return ArchitectureSpec(type="mlp", layers=(64, 32))


def architecture_misfits(architecture: ArchitectureSpec | None, facts: DataFacts) -> Iterator[Fault]:
    """Where the network cannot take the features."""
    if architecture and architecture.type == "cnn" and facts.whole_kind != "image":
        yield Fault("#/architecture/type", "'mlp' for columns", "the string 'cnn'")
