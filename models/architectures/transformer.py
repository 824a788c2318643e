"""A Transformer encoder for series and texts."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.architectures.layers import Habits, keras_activation
from models.spec.network import TransformerSpec


def hidden_layers(inputs: Any, spec: TransformerSpec, habits: Habits) -> Any:
    """Blocks of self-attention and a dense pair, each normalized before and added to what came in; then the mean.

    Vaswani et al. 2017, "Attention is all you need", with the normalization in front of each part (Xiong et al. 2020,
    "On layer normalization in the Transformer architecture").

    Args:
        inputs: a Keras tensor `(None, steps, channels)`.

    Returns:
        A Keras tensor `(None, spec.width)`.
    """
    hidden = keras.layers.Dense(spec.width, kernel_regularizer=habits.regularizer)(inputs)
    offsets: Any = positions(inputs.shape[1], spec.width)
    hidden = keras.layers.Rescaling(1.0, offset=offsets, name="positions")(hidden)
    for units in spec.layers:
        normed = keras.layers.LayerNormalization()(hidden)
        attention = keras.layers.MultiHeadAttention(
            spec.heads, spec.width // spec.heads, kernel_regularizer=habits.regularizer
        )
        hidden = keras.layers.Add()([hidden, habits.dropped(attention(normed, normed))])
        normed = keras.layers.LayerNormalization()(hidden)
        dense = keras.layers.Dense(
            units, activation=keras_activation(spec.activation), kernel_regularizer=habits.regularizer
        )(normed)
        dense = keras.layers.Dense(spec.width, kernel_regularizer=habits.regularizer)(dense)
        hidden = keras.layers.Add()([hidden, habits.dropped(dense)])
    hidden = keras.layers.LayerNormalization()(hidden)
    return keras.layers.GlobalAveragePooling1D()(hidden)


def positions(steps: int, width: int) -> NDArray[np.float32]:
    """What is added to each step so that attention can tell where it is: `(steps, width)`.

    Sines and cosines of rising wavelengths (Vaswani et al. 2017, section 3.5), the sines first.
    """
    half = -(-width // 2)
    angles = np.arange(steps)[:, np.newaxis] / 10_000 ** (np.arange(half) / half)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width].astype(np.float32)
