"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def hidden_layers(
    inputs: Any, units: Sequence[int], *, activation: str, dropout: float, regularizer: keras.Regularizer
) -> Any:
    """Dense layers of the given widths, each followed by dropout. An image is flattened first.

    Args:
        inputs: a Keras tensor `(None, ...)`.

    Returns:
        A Keras tensor `(None, units[-1])`.
    """
    hidden = keras.layers.Flatten()(inputs) if len(inputs.shape) > 2 else inputs
    for width in units:
        hidden = keras.layers.Dense(width, activation=activation, kernel_regularizer=regularizer)(hidden)
        if dropout:
            hidden = keras.layers.Dropout(dropout)(hidden)
    return hidden
