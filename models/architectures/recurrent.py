"""Recurrent networks for series and texts: simple cells, GRU, LSTM, in one direction or both."""

from __future__ import annotations

from typing import Any

import keras

from models.architectures.layers import Habits, keras_activation, normalized
from models.spec.network import RecurrentSpec

_CELLS = {"simple": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}


def hidden_layers(inputs: Any, spec: RecurrentSpec, habits: Habits) -> Any:
    """Recurrent layers, each with dropout behind it. Those before the last give their state at every step.

    Args:
        inputs: a Keras tensor `(None, steps, channels)`.

    Returns:
        A Keras tensor `(None, spec.layers[-1])`, twice as wide in both directions.
    """
    hidden = inputs
    for i, units in enumerate(spec.layers):
        layer = _CELLS[spec.cell](
            units,
            activation=keras_activation(spec.activation),
            return_sequences=i + 1 < len(spec.layers),
            kernel_regularizer=habits.regularizer,
        )
        hidden = (keras.layers.Bidirectional(layer) if spec.bidirectional else layer)(hidden)
        hidden = habits.dropped(normalized(hidden, spec.normalization))
    return hidden
