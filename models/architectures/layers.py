"""What the layers of every architecture have in common: activation, normalization, dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Habits:
    """How each layer of a network is regularized.

    Attributes:
        dropout: the part of the units that is left out while training; 0 for none.
        regularizer: of every kernel.
    """

    dropout: float
    regularizer: keras.Regularizer

    def dropped(self, hidden: Any) -> Any:
        return keras.layers.Dropout(self.dropout)(hidden) if self.dropout else hidden


def keras_activation(name: str) -> str:
    """Our name of an activation as Keras spells it."""
    return name.replace("-", "_")


def activated(layer: type[keras.layers.Layer], *arguments: Any, activation: str, normalization: str | None) -> Any:
    """A layer whose values are normalized, where asked for, and then activated: a function of tensors.

    Without normalization the activation is the layer's own, so that one layer is one entry of a summary.

    Args:
        arguments: of the layer; its keyword arguments are given to the function that is returned.
    """

    def apply(hidden: Any, **keywords: Any) -> Any:
        if normalization is None:
            return layer(*arguments, activation=keras_activation(activation), **keywords)(hidden)
        # The normalization has an offset of its own.
        hidden = normalized(layer(*arguments, use_bias=False, **keywords)(hidden), normalization)
        return keras.layers.Activation(keras_activation(activation))(hidden)

    return apply


def normalized(hidden: Any, normalization: str | None) -> Any:
    """Batch normalization (Ioffe and Szegedy 2015), layer normalization over channels (Ba et al. 2016), or neither."""
    match normalization:
        case "batch":
            # 0.9 instead of 0.99: on small data there are too few steps for slower averages to arrive.
            return keras.layers.BatchNormalization(momentum=0.9)(hidden)
        case "layer":
            return keras.layers.LayerNormalization()(hidden)
        case _:
            return hidden
