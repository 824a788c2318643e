"""A multilayer perceptron."""

from __future__ import annotations

from typing import Any

import keras

from models.architectures.layers import Habits, activated
from models.spec.network import MlpSpec


def hidden_layers(inputs: Any, spec: MlpSpec, habits: Habits) -> Any:
    """Dense layers of the given widths, each followed by dropout. An image or a series is flattened first.

    Args:
        inputs: a Keras tensor `(None, ...)`.

    Returns:
        A Keras tensor `(None, spec.layers[-1])`.
    """
    hidden = keras.layers.Flatten()(inputs) if len(inputs.shape) > 2 else inputs
    for width in spec.layers:
        dense = activated(keras.layers.Dense, width, activation=spec.activation, normalization=spec.normalization)
        hidden = habits.dropped(dense(hidden, kernel_regularizer=habits.regularizer))
    return hidden
