"""Temperature scaling of a fitted model: found on the validation part and, where asked for, built into the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.calibration import fit_temperature
from models.rows import ModelInput


def temperature_of(
    model: Any, inputs: ModelInput, targets: NDArray[np.int64], predict: Callable[[Any, ModelInput], Any]
) -> float:
    """The temperature of a classifier, from rows that its weights were not fitted on."""
    import keras

    return fit_temperature(predict(keras.Model(model.input, model.get_layer("logit").output), inputs), targets)


def temper(model: Any, temperature: float) -> None:
    """Divides the logits of a classifier by a temperature, in place.

    It goes into the weights of the last linear layer, which is the same function as a layer of its own behind it:
    probabilities, the output `logit`, gradients and the ONNX export all follow, and the model keeps its layers.
    """
    layer = model.get_layer("logit")
    layer.set_weights([weights / np.float32(temperature) for weights in layer.get_weights()])
