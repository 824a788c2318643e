"""Blocks of two convolutions, along one axis or two, plain or residual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from models.architectures.layers import Habits, activated, keras_activation, normalized
from models.errors import InvalidDataset
from models.spec.network import CnnSpec, SeriesCnnSpec


@dataclass(frozen=True)
class Dimensions:
    """The layers of one number of axes."""

    convolution: Any
    pooling: Any


ONE_AXIS = Dimensions(keras.layers.Conv1D, keras.layers.MaxPooling1D)
TWO_AXES = Dimensions(keras.layers.Conv2D, keras.layers.MaxPooling2D)


def convolutional_blocks(inputs: Any, spec: CnnSpec | SeriesCnnSpec, habits: Habits, dimensions: Dimensions) -> Any:
    """A block of each number of filters; between two blocks, max pooling halves each axis.

    Args:
        inputs: a Keras tensor `(None, *cells, channels)`.

    Raises:
        InvalidDataset: when there are more halvings than the input has cells for.
    """
    check_depth(tuple(inputs.shape[1:-1]), len(spec.layers))
    hidden = inputs
    for block, filters in enumerate(spec.layers):
        if block:
            hidden = dimensions.pooling()(hidden)
        hidden = habits.dropped(_block(hidden, filters, spec, habits, dimensions))
    return hidden


def check_depth(cells: tuple[int, ...], n_blocks: int) -> None:
    """Raises `InvalidDataset` where so many blocks, with a halving between two, leave nothing of an axis."""
    deepest = min(cells).bit_length()
    if n_blocks > deepest:
        size = " x ".join(map(str, cells)) + (" steps" if len(cells) == 1 else " pixels")
        raise InvalidDataset(
            f"The network is too deep for its input: {n_blocks} blocks halve {size} {n_blocks - 1} times, and nothing "
            f"is left. Expected at most {deepest} numbers in architecture.layers."
        )


def _block(inputs: Any, filters: int, spec: CnnSpec | SeriesCnnSpec, habits: Habits, dimensions: Dimensions) -> Any:
    arguments, keywords = (filters, spec.kernel), {"padding": "same", "kernel_regularizer": habits.regularizer}
    layer = activated(dimensions.convolution, *arguments, activation=spec.activation, normalization=spec.normalization)
    first = layer(inputs, **keywords)
    if not spec.residual:
        return layer(first, **keywords)
    second = dimensions.convolution(*arguments, use_bias=spec.normalization is None, **keywords)(first)
    second = normalized(second, spec.normalization)
    if inputs.shape[-1] != filters:
        inputs = dimensions.convolution(filters, 1, use_bias=False, kernel_regularizer=habits.regularizer)(inputs)
    return keras.layers.Activation(keras_activation(spec.activation))(keras.layers.Add()([inputs, second]))
