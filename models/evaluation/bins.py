"""Into which bins probabilities fall when they are compared with how often they came true."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_BINS = 15
"""Of equal width over 0 to 1, as Guo et al. (2017) take."""


def calibration_bins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n_rows, N_BINS)`: 1 in the bin of each row's probability, else 0. A bin holds its upper end."""
    places = np.clip(np.ceil(probabilities * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    return np.eye(N_BINS)[places]
