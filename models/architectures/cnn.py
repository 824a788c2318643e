"""A convolutional network for small images."""

from __future__ import annotations

from typing import Any

import keras

from models.architectures.blocks import TWO_AXES, convolutional_blocks
from models.architectures.layers import Habits, keras_activation
from models.spec.network import CnnSpec


def hidden_layers(inputs: Any, spec: CnnSpec, habits: Habits) -> Any:
    """Blocks of two convolutions, halved by max pooling between them, then one dense layer.

    Args:
        inputs: a Keras tensor `(None, height, width, channels)`.

    Returns:
        A Keras tensor `(None, 2 * spec.layers[-1])`.

    Raises:
        InvalidDataset: when there are more blocks than halvings of the image.
    """
    hidden = convolutional_blocks(inputs, spec, habits, TWO_AXES)
    if spec.pooling == "average":
        hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    else:
        hidden = keras.layers.Flatten()(hidden)
    hidden = keras.layers.Dense(
        2 * spec.layers[-1], activation=keras_activation(spec.activation), kernel_regularizer=habits.regularizer
    )(hidden)
    return habits.dropped(hidden)
