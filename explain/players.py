"""Who gets an attribution: which player each element of a row belongs to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def feature_players(n_features: int) -> NDArray[np.intp]:
    """One player per column, for rows of columns."""
    return np.arange(n_features)


def pixel_players(row_shape: tuple[int, ...]) -> NDArray[np.intp]:
    """One player per pixel, its channels together, for an image `(height, width, channels)`."""
    height, width, channels = row_shape
    return np.repeat(np.arange(height * width), channels).reshape(row_shape)
