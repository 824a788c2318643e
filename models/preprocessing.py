"""The layers between raw units and the network, and back: they are saved inside the Keras model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from models.rows import ModelInput
from models.signature import Signature


def scaled_input(inputs: Any, signature: Signature, rows: ModelInput, scaling: str) -> Any:
    """Maps raw inputs to what a network learns from.

    Args:
        inputs: the Keras input tensor, `(None, *signature.input_shape)`, in raw units.
        rows: the training rows, from which the scale of columns is taken.
        scaling: "standard" (zero mean, unit variance) or "none". An image is always mapped to [0, 1] by its
            declared value range.
    """
    if signature.image is not None:
        low, high = signature.image.value_range
        return keras.layers.Rescaling(1.0 / (high - low), offset=-low / (high - low), name="to_unit_range")(inputs)
    if scaling == "none":
        return inputs
    # adapt(), not constants: a Normalization layer given constants does not export to ONNX.
    normalization = keras.layers.Normalization(axis=-1, name="standardize")
    normalization.adapt(rows)
    return normalization(inputs)


def target_scale(targets: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of regression targets (never 0), in the target's units."""
    return float(targets.mean()), float(targets.std()) or 1.0


def in_target_units(outputs: Any, mean: float, deviation: float) -> Any:
    """Maps standardized outputs back to the target's units."""
    return keras.layers.Rescaling(deviation, offset=mean, name="output")(outputs)
