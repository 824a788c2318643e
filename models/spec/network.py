"""Which network is fitted, and what keeps it from learning its rows by heart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from models.errors import Fault
from models.facts import DataFacts
from models.spec.augmentation import AugmentationSpec, augmentation_misfits
from models.spec.part import Part

Activation = Literal["relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid"]
Normalization = Literal["batch", "layer"]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=16)]
Shape = Literal["columns", "image", "sequence"]


class MlpSpec(Part):
    """Dense layers of the given widths. `linear` with one layer is a linear model."""

    type: Literal["mlp"]
    layers: Widths
    activation: Activation | Literal["linear", "softmax"] = "relu"
    normalization: Annotated[Normalization | None, Field(description="after each layer")] = None


class CnnSpec(Part):
    """Blocks of two convolutions over an image, halved between them; then one dense layer.

    `residual` adds to each block its own input (He et al. 2016). `pooling` says how the last block becomes one vector:
    all of its cells, or their mean.
    """

    type: Literal["cnn"]
    layers: Annotated[Widths, Field(description="filters of each block")]
    kernel: Annotated[int, Field(ge=1, le=15, description="height and width of a convolution")] = 3
    activation: Activation = "relu"
    normalization: Annotated[Normalization | None, Field(description="after each convolution")] = None
    residual: bool = False
    pooling: Literal["flatten", "average"] = "flatten"


class SeriesCnnSpec(Part):
    """Blocks of two convolutions along a series or a text, halved between them; mean and maximum over what is left."""

    type: Literal["cnn-1d"]
    layers: Annotated[Widths, Field(description="filters of each block")]
    kernel: Annotated[int, Field(ge=1, le=63, description="steps of a convolution")] = 5
    activation: Activation = "relu"
    normalization: Annotated[Normalization | None, Field(description="after each convolution")] = None
    residual: bool = False


class RecurrentSpec(Part):
    """Recurrent layers along a series or a text; the last one gives its last state."""

    type: Literal["recurrent"]
    layers: Annotated[Widths, Field(description="units of each layer")]
    cell: Literal["simple", "gru", "lstm"] = "lstm"
    bidirectional: Annotated[bool, Field(description="read from both ends, each with as many units")] = False
    activation: Activation = "tanh"
    normalization: Annotated[Literal["layer"] | None, Field(description="after each layer")] = None


class TransformerSpec(Part):
    """Encoder blocks of attention and a dense pair over a series or a text, then the mean over its steps.

    Normalized before each part (Xiong et al. 2020), so that it needs no warm-up to start. Positions are sines.
    """

    type: Literal["transformer"]
    layers: Annotated[Widths, Field(description="units of the dense pair of each block")]
    width: Annotated[int, Field(ge=1, le=4096, description="channels of each step within the blocks")] = 32
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    activation: Activation = "gelu"


ArchitectureSpec = Annotated[
    MlpSpec | CnnSpec | SeriesCnnSpec | RecurrentSpec | TransformerSpec, Field(discriminator="type")
]
FITTING: dict[Shape, tuple[str, ...]] = {
    "columns": ("mlp",),
    "image": ("cnn", "mlp"),
    "sequence": ("cnn-1d", "recurrent", "transformer", "mlp"),
}
"""The networks that take a row of each shape, the default first."""


class RegularizationSpec(Part):
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    l1: Annotated[float, Field(ge=0)] = 0.0
    l2: Annotated[float, Field(ge=0)] = 1e-4
    label_smoothing: Annotated[
        float, Field(ge=0, lt=0.5, description="part of each label's probability that is given to all labels alike")
    ] = 0.0
    augmentation: Annotated[tuple[AugmentationSpec, ...], Field(max_length=16)] = ()


def shape_of(facts: DataFacts) -> Shape:
    """What a network is given of a row: columns, an image, or steps one after another."""
    if facts.whole_kind == "image":
        return "image"
    # A text beside other features is summed up to columns; one alone is read token by token.
    return "sequence" if tuple(facts.kinds.values()) in (("series",), ("text",)) else "columns"


def default_architecture(facts: DataFacts) -> ArchitectureSpec:
    """The network for a data set whose specification names none."""
    match shape_of(facts):
        case "image":
            return CnnSpec(type="cnn", layers=(32, 64))
        case "sequence":
            return SeriesCnnSpec(type="cnn-1d", layers=(32, 64))
        case "columns":
            return MlpSpec(type="mlp", layers=(64, 32))


def architecture_misfits(architecture: ArchitectureSpec | None, facts: DataFacts) -> Iterator[Fault]:
    """Where the network cannot take the features, or its parts do not fit each other."""
    if architecture is None:
        return
    shape = shape_of(facts)
    if architecture.type not in FITTING[shape]:
        *others, last = (repr(name) for name in FITTING[shape])
        names = f"{', '.join(others)} or {last}" if others else last
        rows = {"columns": "columns", "image": "an image", "sequence": "a series or a text"}[shape]
        yield Fault("#/architecture/type", f"{names} for {rows}", f"the string {architecture.type!r}")
    if architecture.type == "transformer" and architecture.width % architecture.heads:
        expected = f"a divisor of the width, {architecture.width}"
        yield Fault("#/architecture/heads", expected, f"the number {architecture.heads}")


def regularization_misfits(regularization: RegularizationSpec, facts: DataFacts) -> Iterator[Fault]:
    """Where what is to keep the network from learning by heart does not suit the task or the rows."""
    if regularization.label_smoothing and facts.task != "classification":
        received = f"the number {regularization.label_smoothing:g}"
        yield Fault("#/regularization/label_smoothing", "0 for a regression", received)
    kinds = tuple(facts.kinds.values())
    yield from augmentation_misfits(regularization.augmentation, kind=kinds[0] if len(kinds) == 1 else None)
