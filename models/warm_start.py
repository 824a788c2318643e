"""A fit that begins with the weights of an earlier version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact
from models.errors import WarmStartImpossible


def take_weights(network: Any, earlier: Artifact, version: int) -> None:
    """Gives each layer of a network that learns the weights of its counterpart in an earlier version.

    Layers are held against each other in their order. What is taken from data and not learned (the means of a scaling,
    a vocabulary) stays that of the data at hand.

    Raises:
        WarmStartImpossible: naming the first layer that is another one.
    """
    mine, theirs = _learning(network), _learning(earlier.load_keras())
    for place in range(max(len(mine), len(theirs))):
        received, expected = (_described(layers, place) for layers in (mine, theirs))
        if received != expected:
            name = (mine if place < len(mine) else theirs)[place].name
            raise WarmStartImpossible(version, place + 1, name, expected, received)
    for layer, their_layer in zip(mine, theirs, strict=True):
        layer.set_weights(_weights(their_layer))


def _learning(model: Any) -> list[Any]:
    """Layers that hold weights which a fit changes, in the order of the model, those inside of layers not apart."""
    return list(_flat(model.layers))


def _flat(layers: Sequence[Any]) -> Iterator[Any]:
    for layer in layers:
        if hasattr(layer, "layers") and layer.layers and layer.trainable_variables:
            yield from _flat(layer.layers)
        elif layer.trainable_variables:
            yield layer


def _weights(layer: Any) -> list[NDArray[Any]]:
    return [np.asarray(weight) for weight in layer.weights]


def _described(layers: Sequence[Any], place: int) -> str:
    if place >= len(layers):
        return "no layer"
    shapes = ", ".join("x".join(map(str, weight.shape)) or "1" for weight in layers[place].weights)
    return f"{type(layers[place]).__name__} with weights {shapes}"
