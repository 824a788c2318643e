"""A convolutional network for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def hidden_layers(
    inputs: Any, filters: Sequence[int], *, activation: str, dropout: float, regularizer: keras.Regularizer
) -> Any:
    """Blocks of two 3 x 3 convolutions, halved by max pooling between them, then one dense layer.

    Args:
        inputs: a Keras tensor `(None, height, width, channels)`.
        filters: the number of filters of each block.

    Returns:
        A Keras tensor `(None, 2 * filters[-1])`.
    """
    hidden = inputs
    for block, width in enumerate(filters):
        if block and min(hidden.shape[1], hidden.shape[2]) >= 2:
            hidden = keras.layers.MaxPooling2D()(hidden)
        for _ in range(2):
            hidden = keras.layers.Conv2D(
                width, 3, padding="same", activation=activation, kernel_regularizer=regularizer
            )(hidden)
        if dropout:
            hidden = keras.layers.Dropout(dropout)(hidden)
    hidden = keras.layers.Flatten()(hidden)
    hidden = keras.layers.Dense(2 * filters[-1], activation=activation, kernel_regularizer=regularizer)(hidden)
    return keras.layers.Dropout(dropout)(hidden) if dropout else hidden
