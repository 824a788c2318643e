"""A convolutional network for series, and for texts as series of embedded tokens."""

from __future__ import annotations

from typing import Any

import keras

from models.architectures.blocks import ONE_AXIS, convolutional_blocks
from models.architectures.layers import Habits
from models.spec.network import SeriesCnnSpec


def hidden_layers(inputs: Any, spec: SeriesCnnSpec, habits: Habits) -> Any:
    """Blocks of two convolutions, halved by max pooling between them, then the mean and the maximum over the steps.

    The mean says how much of a pattern there is, the maximum whether there is any.

    Args:
        inputs: a Keras tensor `(None, steps, channels)`.

    Returns:
        A Keras tensor `(None, 2 * spec.layers[-1])`.

    Raises:
        InvalidDataset: when there are more blocks than halvings of the series.
    """
    hidden = convolutional_blocks(inputs, spec, habits, ONE_AXIS)
    pooled = [keras.layers.GlobalAveragePooling1D()(hidden), keras.layers.GlobalMaxPooling1D()(hidden)]
    return keras.layers.Concatenate()(pooled)
