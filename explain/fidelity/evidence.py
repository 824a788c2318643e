"""When figures of several rows are evidence: intervals by bootstrap, p-values of means and shares."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

P_LIMIT = 0.001
"""A check fails only where its figures would be rarer than this if the explanations were right."""
BOOTSTRAPS = 2000


def bootstrap_interval(values: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of a mean over rows, by drawing rows with replacement (Efron 1979).

    Args:
        values: `(n_rows,)`. Of one row the interval is that row's value.
    """
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(BOOTSTRAPS, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def p_of_mean_at_least(values: NDArray[np.float64], line: float) -> float:
    """How likely so low a mean would be if the true mean were `line` or more: Student's t, one-sided.

    One row alone is evidence of nothing: 1. Rows that all agree to the bit are certain: 0 or 1. A row that is not a
    number is as low as can be.
    """
    if np.isnan(values).any():
        return 0.0
    if len(values) < 2:
        return 1.0
    difference = float(values.mean()) - line
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    if error == 0:
        return 0.0 if difference < 0 else 1.0
    from scipy.stats import t

    return float(t.cdf(difference / error, len(values) - 1))


def p_of_share_at_least(shares: NDArray[np.float64], line: float) -> float:
    """How likely so low a mean share would be at most, if the true one were `line` or more.

    Hoeffding 1963, "Probability inequalities for sums of bounded random variables", eq. 2.1: exp(-n kl(mean, line)).
    It holds for independent rows however the players of a row depend on each other.

    Args:
        shares: `(n_rows,)` in [0, 1].
        line: strictly between 0 and 1.
    """
    mean = float(shares.mean())
    if mean >= line:
        return 1.0
    divergence = (1 - mean) * math.log((1 - mean) / (1 - line)) + (mean * math.log(mean / line) if mean > 0 else 0.0)
    return math.exp(-len(shares) * divergence)
