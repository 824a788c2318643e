"""Dots for rows of a data set: which are drawn, where they stand beside each other, and their colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.pictures.canvas import Dots, Point
from explain.pictures.page import Page, evenly
from explain.pictures.style import name_of, value_colours

LEVELS = 16
OUTER = (0.05, 0.95)
"""Quantiles of a feature's values that have the outermost colours: one far value does not make all others alike."""


def numbers_of(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """`(n_rows,)`, NaN where a value is missing; None where a value is a word."""
    if any(isinstance(value, str) for value in values):
        return None
    return np.array([np.nan if value is None else float(value) for value in values])


def levels_of(values: Sequence[Any]) -> NDArray[np.intp]:
    """`(n_rows,)`: the level of colour of each value, from 0 (low) to `LEVELS` - 1 (high); -1 where it has no order."""
    numbers = numbers_of(values)
    levels = np.full(len(values), -1)
    if numbers is None or not np.isfinite(numbers).any():
        return levels
    there = np.isfinite(numbers)
    low, high = np.quantile(numbers[there], OUTER)
    if low == high:
        low, high = numbers[there].min(), numbers[there].max()
    part = np.clip((numbers[there] - low) / (high - low), 0, 1) if high > low else np.full(there.sum(), 0.5)
    levels[there] = np.minimum((part * LEVELS).astype(int), LEVELS - 1)
    return levels


def drawn_rows(attributions: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Rows whose dots are drawn: evenly spaced by rank, the extremes among them."""
    order = np.argsort(attributions, kind="stable").tolist()
    return np.array(evenly(order, most), dtype=np.intp)


def beside_each_other(places: NDArray[np.float64], diameter: float, room: float) -> NDArray[np.float64]:
    """`(n_dots,)`: how far each dot stands from the middle line, so that those at one place are seen to be many.

    Dots of one column (as wide as a dot) stand around the line. They are closer, in all columns alike, where the
    fullest would leave the room: the outline shows how many there are.
    """
    if not len(places):
        return np.zeros(0)
    ranks = np.zeros(len(places))
    columns = np.floor(places / diameter)
    for column in np.unique(columns):
        members = np.flatnonzero(columns == column)
        count = np.arange(len(members))
        # 0, 1, -1, 2, -2, ...
        ranks[members] = (count + 1) // 2 * np.where(count % 2, 1, -1)
    return ranks * min(diameter, room / 2 / max(1.0, float(np.abs(ranks).max())))


def add_dots(page: Page, points: Sequence[Point], levels: NDArray[np.intp], radius: float) -> None:
    """Dots in the colours of their levels."""
    for level in np.unique(levels).tolist():
        members = [points[i] for i in np.flatnonzero(levels == level).tolist()]
        ordered = name_of(value_colours(max(level, 0) / (LEVELS - 1), page.palette))
        colour = page.palette.no_value if level < 0 else ordered
        page.canvas.add(Dots(members, radius, colour))
