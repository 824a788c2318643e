"""How far figures would move with other test rows: bootstrap intervals, and of differences on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from models.evaluation.weighted import ByMetric, WeightedMetrics

RESAMPLES = 1000
LEVEL = 0.95
FEW_ROWS = 15
"""A stratum with fewer rows would be missing from one of a thousand resamples (e^-15 each): then each stratum is drawn
for itself."""

JACKKNIFE_GROUPS = 200
LEAST_DEFINED = 0.9
"""The part of the resamples in which a metric must be defined for an interval."""

_CELLS = 150_000
"""Weights held at a time: what fits a processor's cache."""


@dataclass(frozen=True)
class Resampling:
    """How often each row counts in each resample: the same for everything that is compared on these rows.

    Attributes:
        counts: `(n_resamples, n_rows)`.
        left_out: `(n_groups, n_rows)`: 0 for the rows that a jackknife leaves out, else 1.
        stratified: whether each stratum has as many rows in every resample as it has.
    """

    counts: NDArray[np.uint16]
    left_out: NDArray[np.uint16]
    stratified: bool

    @staticmethod
    def draw(
        n_rows: int, *, strata: NDArray[np.int64] | None = None, n_resamples: int = RESAMPLES, seed: int = 0
    ) -> Resampling:
        """Draws rows with replacement.

        Args:
            strata: `(n_rows,)`, as the label of each row: where one has few rows, each stratum is drawn for itself.
        """
        rng = np.random.default_rng(seed)
        groups = [np.arange(n_rows)]
        if strata is not None and len(held := np.unique(strata, return_counts=True)[1]) > 1 and held.min() < FEW_ROWS:
            groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
        counts = np.zeros((n_resamples, n_rows), dtype=np.uint16)
        at_once = max(1, _CELLS // max(n_rows, 1))
        for start in range(0, n_resamples, at_once):
            part = counts[start : start + at_once]
            for members in groups:
                drawn = rng.integers(len(members), size=(len(part), len(members)))
                flat = drawn + np.arange(len(part))[:, None] * len(members)
                part[:, members] = np.bincount(flat.ravel(), minlength=len(part) * len(members)).reshape(len(part), -1)
        # Without its only row, there is nothing to measure.
        n_groups = min(n_rows, JACKKNIFE_GROUPS) if n_rows > 1 else 0
        left_out = np.ones((n_groups, n_rows), dtype=np.uint16)
        if n_groups:
            left_out[rng.permutation(n_rows) % n_groups, np.arange(n_rows)] = 0
        return Resampling(counts, left_out, len(groups) > 1)


@dataclass(frozen=True)
class Distribution:
    """What metrics are over the rows, over resamples of them, and with groups of them left out."""

    whole: dict[str, float]
    resampled: ByMetric
    jackknifed: ByMetric

    @staticmethod
    def of(metrics: WeightedMetrics, resampling: Resampling) -> Distribution:
        whole = metrics(np.ones((1, metrics.n_rows)))
        return Distribution(
            {name: float(values[0]) for name, values in whole.items()},
            _over(metrics, resampling.counts),
            _over(metrics, resampling.left_out),
        )

    def minus(self, other: Distribution) -> Distribution:
        """The differences, resample by resample: both must be of the same resampling."""
        return Distribution(
            {name: value - other.whole[name] for name, value in self.whole.items()},
            {name: values - other.resampled[name] for name, values in self.resampled.items()},
            {name: values - other.jackknifed[name] for name, values in self.jackknifed.items()},
        )

    def of_all(self, whole: dict[str, float], n_rows: int, n_sampled: int) -> Distribution:
        """That of more rows, of which only some were resampled: around their value, and narrower by the square root
        of the ratio (Politis and Romano 1994)."""
        factor = (n_sampled / n_rows) ** 0.5

        def moved(values: ByMetric) -> ByMetric:
            return {name: whole[name] + factor * (each - self.whole[name]) for name, each in values.items()}

        return Distribution(whole, moved(self.resampled), moved(self.jackknifed))

    def interval(self, name: str, level: float = LEVEL) -> tuple[float, float] | None:
        """The BCa interval (Efron 1987) of a metric; None where resampling cannot say: the metric is not defined, or
        all resamples give one value (as where every row was predicted right)."""
        return bca_interval(self.whole[name], self.resampled[name], self.jackknifed[name], level)

    def share_above_zero(self, name: str) -> float | None:
        """Of a difference: the part of the resamples in which it is above 0, those at 0 counted half."""
        values = self.resampled[name][np.isfinite(self.resampled[name])]
        if not len(values):
            return None
        return float((values > 0).mean() + 0.5 * (values == 0).mean())


def bca_interval(
    whole: float, resampled: NDArray[np.float64], jackknifed: NDArray[np.float64], level: float = LEVEL
) -> tuple[float, float] | None:
    """The bias-corrected and accelerated interval.

    The acceleration is taken from a jackknife over groups of rows (Efron and Tibshirani 1993, section 14.3).

    Args:
        whole: over all rows once.
        resampled: `(n_resamples,)`.
        jackknifed: `(n_groups,)`.
    """
    values = np.sort(resampled[np.isfinite(resampled)])
    if not np.isfinite(whole) or len(values) < LEAST_DEFINED * len(resampled) or np.ptp(values) <= 1e-12 * abs(whole):
        return None
    below = ((values < whole).sum() + 0.5 * (values == whole).sum()) / len(values)
    bias = ndtri(np.clip(below, 1 / (len(values) + 1), len(values) / (len(values) + 1)))
    left = jackknifed[np.isfinite(jackknifed)]
    deviations = left.mean() - left if len(left) else np.zeros(1)
    scale = (deviations**2).sum() ** 1.5
    acceleration = (deviations**3).sum() / (6 * scale) if scale > 0 else 0.0
    ends = ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    places = ndtr(bias + (bias + ends) / (1 - acceleration * (bias + ends)))
    low, high = np.quantile(values, places)
    return float(low), float(high)


def _over(metrics: WeightedMetrics, counts: NDArray[np.uint16]) -> ByMetric:
    at_once = max(1, _CELLS // max(metrics.n_rows, 1))
    parts = [
        metrics(counts[start : start + at_once].astype(np.float64)) for start in range(0, max(1, len(counts)), at_once)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rounded(interval: tuple[float, float] | None) -> list[Any] | None:
    """An interval as JSON has it."""
    return None if interval is None else [interval[0], interval[1]]
