"""What the attributions of many rows say together: how much each player matters, and how its value matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.attribution import student_t_quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """How much each player matters over some rows, all `(n_players,)`, in the units of the explained output.

    Attributes:
        means: the mean attribution; its sign says which way the player pulls on the whole.
        magnitudes: the mean absolute attribution.
        half_widths: of the 95 % confidence intervals of `magnitudes`, as of rows drawn from many more. Student's t on
            the scatter over the rows, which holds the error of each row's attributions too. NaN for a single row.
        errors: the standard error that the estimator alone adds to `magnitudes`; NaN where it stated none.
    """

    means: Floats
    magnitudes: Floats
    half_widths: Floats
    errors: Floats


def importance(attributions: Floats, standard_errors: Floats, weights: Floats | None = None) -> Importance:
    """The importance of each player.

    Args:
        attributions, standard_errors: `(n_rows, n_players)`.
        weights: `(n_rows,)`, what each row stands for; equal when None.
    """
    n_rows = len(attributions)
    shares = np.full(n_rows, 1 / n_rows) if weights is None else weights / weights.sum()
    absolute = np.abs(attributions)
    means = np.einsum("r,rp->p", shares, attributions)
    magnitudes = np.einsum("r,rp->p", shares, absolute)
    half_widths = np.full(attributions.shape[1], np.nan)
    if n_rows > 1:
        # of a weighted mean; with equal weights it is the variance over the rows divided by their number
        variances = np.einsum("r,rp->p", shares**2, (absolute - magnitudes) ** 2) * n_rows / (n_rows - 1)
        half_widths = student_t_quantile(n_rows - 1) * np.sqrt(variances)
    errors = np.sqrt(np.einsum("r,rp->p", shares**2, standard_errors**2))
    return Importance(means, magnitudes, half_widths, errors)


@dataclass(frozen=True)
class Dependence:
    """How attributions follow the values of their feature: means over groups of rows with values close together.

    All `(n_groups,)`, ascending in value.

    Attributes:
        lows, highs: the smallest and largest value of each group.
        means, half_widths: of the attributions, with 95 % confidence intervals; NaN for a group of one row.
    """

    counts: NDArray[np.intp]
    lows: Floats
    highs: Floats
    means: Floats
    half_widths: Floats


def dependence(values: Floats, attributions: Floats, *, n_groups: int = 10) -> Dependence:
    """How the attributions of one feature, `(n_rows,)`, follow its values, `(n_rows,)`.

    Groups are cut at quantiles, between different values: rows with the same value are in the same group.
    """
    order = np.argsort(values, kind="stable")
    values, attributions = values[order], attributions[order]
    firsts = np.flatnonzero(np.diff(values, prepend=-np.inf))
    cuts = np.arange(n_groups) * len(values) / n_groups
    starts = np.unique(firsts[np.searchsorted(firsts, cuts, side="right") - 1])
    groups = np.split(attributions, starts[1:])
    counts = np.array([len(group) for group in groups])
    quantiles = np.array([student_t_quantile(max(count - 1, 1)) for count in counts.tolist()])
    deviations = np.array([group.std(ddof=1) if len(group) > 1 else np.nan for group in groups])
    return Dependence(
        counts=counts,
        lows=values[starts],
        highs=values[np.append(starts[1:], len(values)) - 1],
        means=np.array([group.mean() for group in groups]),
        half_widths=quantiles * deviations / np.sqrt(counts),
    )
