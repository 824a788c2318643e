"""Gradients and activations of each layer after each epoch, measured on one fixed batch of training rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

ROWS = 64
"""Rows of the fixed batch."""

SATURATED = 0.99
"""From this magnitude on a tanh, and a sigmoid's distance from 1/2 doubled, hardly moves any more."""

LayerStatistics = dict[str, float]
"""Of one layer after one epoch:

- `gradient`: the root mean square of the loss's gradient by its weights
- `activation_mean`, `activation_deviation`: of its values over rows and units
- `dead`: the part of its units that are 0 for every row (of a ReLU; they learn nothing more from these rows)
- `saturated`: the part of its values beyond `SATURATED` (of a sigmoid or tanh)
"""


def is_measured(epoch: int) -> bool:
    """Whether an epoch (from 1) is measured: all at first, fewer later, so that long fits stay small on disk."""
    return epoch <= 100 or epoch % (10 if epoch <= 1000 else 100) == 0


@dataclass(frozen=True)
class _Watched:
    """A layer with weights, and the layer whose values are its activations: itself, or the one that activates it."""

    name: str
    variables: tuple[Any, ...]
    values: Any
    activation: str


class Probe:
    """Measures every layer of a network that has weights, in one pass forward and back.

    The network runs as it predicts: no dropout, no augmentation, no state that moves. Measuring thus changes nothing
    of a fit, and a resumed one measures the same.

    Args:
        network: compiled.
        rows, targets: at most `ROWS` of each, as the network and its loss take them.
    """

    def __init__(self, network: Any, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        self._watched = _watched_layers(network)
        self._batch = tf.constant(rows), tf.constant(targets)
        probe = keras.Model(network.inputs, [[each.values for each in self._watched], network.output])
        loss, watched = network.loss, self._watched

        @tf.function(autograph=False)
        def measure(rows: Any, targets: Any) -> Any:
            with tf.GradientTape() as tape:
                activations, outputs = probe(rows, training=False)
                value = loss(targets, outputs)
            slopes: Any = tape.gradient(value, [each.variables for each in watched])
            return [
                _figures(each, values, [slope for slope in of_layer if slope is not None])
                for each, values, of_layer in zip(watched, activations, slopes, strict=True)
            ]

        self._measure = measure

    def __call__(self) -> dict[str, LayerStatistics]:
        """Statistics by the name of the layer, in the order of the network. What is not finite is left out."""
        measured = self._measure(*self._batch)
        found = {}
        for watched, figures in zip(self._watched, measured, strict=True):
            values = {name: float(value) for name, value in figures.items()}
            found[watched.name] = {name: value for name, value in values.items() if math.isfinite(value)}
        return found


def _figures(watched: _Watched, values: Any, slopes: list[Any]) -> dict[str, Any]:
    values = tf.cast(values, tf.float32)
    n_slopes = sum(int(np.prod(slope.shape)) for slope in slopes)
    squares = tf.add_n([tf.reduce_sum(tf.square(tf.cast(tf.convert_to_tensor(slope), tf.float32))) for slope in slopes])
    figures = {
        "gradient": tf.sqrt(squares / n_slopes),
        "activation_mean": tf.reduce_mean(values),
        "activation_deviation": tf.math.reduce_std(values),
    }
    if watched.activation == "relu":
        by_unit = tf.reshape(values, (-1, values.shape[-1]))
        figures["dead"] = tf.reduce_mean(tf.cast(tf.reduce_all(by_unit == 0, axis=0), tf.float32))
    if watched.activation in ("tanh", "sigmoid"):
        magnitudes = tf.abs(values if watched.activation == "tanh" else 2 * values - 1)
        figures["saturated"] = tf.reduce_mean(tf.cast(magnitudes > SATURATED, tf.float32))
    return figures


def _watched_layers(network: Any) -> list[_Watched]:
    followers: dict[int, list[Any]] = {}
    for operation in network.operations:
        for tensor in keras.tree.flatten(getattr(operation, "input", ())):
            followers.setdefault(id(tensor), []).append(operation)
    found = []
    for layer in network.layers:
        variables = tuple(layer.trainable_variables)
        if variables and not isinstance(layer, _NORMALIZATIONS):
            last = layer if layer.name == "logit" else _activating(layer, followers)
            found.append(_Watched(layer.name, variables, last.output, _activation_of(last)))
    return found


_NORMALIZATIONS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)


def _activating(layer: Any, followers: dict[int, list[Any]]) -> Any:
    """The layer that activates the values of this one, where only a normalization stands between them; or itself."""
    last = layer
    while True:
        following = followers.get(id(last.output), [])
        if len(following) != 1 or not isinstance(following[0], (*_NORMALIZATIONS, keras.layers.Activation)):
            return last
        last = following[0]
        if isinstance(last, keras.layers.Activation):
            return last


def _activation_of(layer: Any) -> str:
    if isinstance(layer, keras.layers.Bidirectional | keras.layers.RNN):
        # A state of a recurrent layer is a product of gates: no one function bounds it.
        return "none"
    return getattr(getattr(layer, "activation", None), "__name__", "none")
