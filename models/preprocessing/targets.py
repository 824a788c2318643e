"""The layers between what a network of a regression learns and the target's units."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def target_scale(targets: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of regression targets (never 0), in the target's units."""
    return float(targets.mean()), float(targets.std()) or 1.0


def in_target_units(outputs: Any, mean: float, deviation: float) -> Any:
    """Maps standardized outputs back to the target's units."""
    return keras.layers.Rescaling(deviation, offset=mean, name="output")(outputs)
