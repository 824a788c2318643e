"""What an estimator returns: attributions, their errors, and what they took."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Attributions = NDArray[np.float64]
"""`(n_players, n_targets)`, in the units of the explained output."""

StopReason = Literal["exact", "closed-form", "tolerance", "deadline", "budget"]
Estimand = Literal["shapley", "owen", "aumann-shapley", "saliency"]

CONFIDENCE = 0.95


@lru_cache(maxsize=4096)
def student_t_quantile(degrees_of_freedom: float) -> float:
    """The factor from a standard error to a 95 % half-width, by Student's t."""
    from scipy.special import stdtrit  # a tenth of what scipy.stats takes to import, and to call

    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Interactions:
    """How much more or less two players give together than each alone: the Shapley interaction index of order 2.

    Attributes:
        pairs: `(n_pairs, 2)`, players a < b in lexicographic order: every pair of players.
        values: `(n_pairs, n_targets)`, in the units of the explained output.
        standard_errors: `(n_pairs, n_targets)`; 0 where every coalition was evaluated, NaN with too few to say.
    """

    pairs: NDArray[np.intp]
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]

    @staticmethod
    def of_matrices(values: NDArray[np.float64], standard_errors: NDArray[np.float64]) -> Interactions:
        """From symmetric `(n_players, n_players, n_targets)`."""
        first, second = np.triu_indices(len(values), 1)
        return Interactions(np.stack([first, second], axis=1), values[first, second], standard_errors[first, second])


@dataclass(frozen=True)
class Estimate:
    """Attributions of one row.

    Attributes:
        attributions: `(n_players, n_targets)`.
        standard_errors: `(n_players, n_targets)`; 0 where nothing was sampled because everything was evaluated.
        half_widths: `(n_players, n_targets)` of the 95 % confidence intervals.
        values, base_values: `(n_targets,)`, the output for the row and its weighted mean over the background.
        scales: `(n_targets,)`, S = max(|value - base value|, spread): the scale of the explanation.
        evaluations: rows put through the network.
        interactions: of each two players, where they were asked for.
        segments: `(height, width)`, the player that each pixel belongs to, where an image's players are segments.
        layer: whose feature map was looked at.
    """

    method: str
    estimand: Estimand
    attributions: Attributions
    standard_errors: Attributions
    half_widths: Attributions
    values: NDArray[np.float64]
    base_values: NDArray[np.float64]
    scales: NDArray[np.float64]
    evaluations: int
    stop_reason: StopReason
    interactions: Interactions | None = None
    segments: NDArray[np.intp] | None = None
    layer: str | None = None

    @property
    def efficiency_residuals(self) -> NDArray[np.float64]:
        """`(n_targets,)`: sum of attributions - (value - base value)."""
        return self.attributions.sum(axis=0) - (self.values - self.base_values)
