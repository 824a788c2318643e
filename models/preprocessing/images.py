"""Images: all of one size, on one scale."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.signature import Feature
from models.spec.preprocessing import ImageSpec

ops: Any = keras.ops


def encoded_images(images: Any, feature: Feature, rules: ImageSpec) -> Any:
    """Images as a network learns from them.

    Args:
        images: a tensor of float32, `(None, *feature.shape)`, in the data set's own units.

    Returns:
        `(None, height, width, channels)`, in 0..1 or in -1..1.
    """
    if rules.resize is not None and rules.resize != feature.shape[:2]:
        images = _resized(images, feature.shape, rules.resize)
    low, high = feature.value_range
    if rules.rescale == "symmetric":
        span, offset, name = (high - low) / 2, -1.0, "to_symmetric_range"
    else:
        span, offset, name = high - low, 0.0, "to_unit_range"
    return keras.layers.Rescaling(1.0 / span, offset=offset - low / span, name=name)(images)


def _resized(images: Any, shape: tuple[int, ...], size: tuple[int, int]) -> Any:
    """Two products of matrices: they export to ONNX and have gradients there. Keras's own Resizing with antialiasing
    becomes an operation that ONNX Runtime does not have; without it most pixels of a large image count for nothing."""
    (height, width, channels), (new_height, new_width) = shape, size
    lines = ops.reshape(images, (-1, height, width * channels))
    lines = ops.matmul(resizing_matrix(height, new_height), lines)
    return ops.matmul(resizing_matrix(width, new_width), ops.reshape(lines, (-1, new_height, width, channels)))


def resizing_matrix(size: int, new_size: int) -> NDArray[np.float32]:
    """`(new_size, size)`: how much each pixel along an axis is of each new one. The bilinear (triangle) filter, as wide
    as what falls together; rows sum to 1."""
    scale = size / new_size
    centres = (np.arange(new_size) + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - centres[:, np.newaxis]) / max(scale, 1.0)
    weights = np.maximum(1.0 - distances, 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
