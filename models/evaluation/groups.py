"""Which group each row belongs to by a sensitive column: its categories, or parts of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW_VALUES = 10
"""Numbers with at most so many values are groups as they are."""
QUANTILES = (0.25, 0.5, 0.75)
MAX_GROUPS = 20
MISSING, OTHERS = "missing", "others"


@dataclass(frozen=True)
class Groups:
    """`names`, and for each row the place of its group in them. `cut_at`: the numbers that part a numeric column."""

    names: tuple[str, ...]
    of_row: NDArray[np.int64]
    cut_at: tuple[float, ...] | None = None


def groups_of(values: NDArray[Any], learned: NDArray[np.int64], rows: NDArray[np.int64]) -> Groups:
    """Groups of rows by a column.

    Args:
        values: `(n_rows,)` of the whole data set: numbers (NaN where missing), times, or words (None where missing).
        learned: the rows whose quartiles cut numbers, so that groups do not depend on the test rows.
        rows: the rows that are grouped.
    """
    if values.dtype.kind in "fiub":
        return _by_number(values.astype(np.float64), learned, rows, lambda value: f"{value:.6g}")
    if values.dtype.kind == "M":
        days = values.astype("datetime64[D]")
        numbers = np.where(np.isnat(days), np.nan, days.astype(np.int64).astype(np.float64))
        return _by_number(numbers, learned, rows, lambda value: str(np.datetime64(round(value), "D")))
    words = np.array([MISSING if value is None else str(value) for value in values[rows]], dtype=object)
    return _by_word(words)


def _by_number(values: NDArray[np.float64], learned: NDArray[np.int64], rows: NDArray[np.int64], word: Any) -> Groups:
    chosen, known = values[rows], values[learned]
    known = known[np.isfinite(known)]
    missing = ~np.isfinite(chosen)
    if len(np.unique(values[np.isfinite(values)])) <= FEW_VALUES or not len(known):
        return _in_order(np.unique(chosen[~missing]), chosen, missing, word)
    cuts = np.unique(np.quantile(known, QUANTILES))
    places = np.searchsorted(cuts, chosen, side="left")
    names = [f"<= {word(cuts[0])}"]
    names += [f"> {word(low)}, <= {word(high)}" for low, high in pairwise(cuts)]
    names += [f"> {word(cuts[-1])}"]
    places[missing] = len(names)
    return _held([*names, MISSING], places, tuple(cuts.tolist()))


def _in_order(found: NDArray[np.float64], chosen: NDArray[np.float64], missing: NDArray[np.bool_], word: Any) -> Groups:
    places = np.searchsorted(found, chosen)
    places[missing] = len(found)
    return _held([*(word(value) for value in found), MISSING], places, None)


def _by_word(words: NDArray[Any]) -> Groups:
    found, places, counts = np.unique(words.astype(str), return_inverse=True, return_counts=True)
    if len(found) <= MAX_GROUPS:
        return _held(found.tolist(), places, None)
    largest = np.sort(np.argsort(-counts, kind="stable")[: MAX_GROUPS - 1])
    new = np.full(len(found), MAX_GROUPS - 1)
    new[largest] = np.arange(MAX_GROUPS - 1)
    return _held([*found[largest].tolist(), f"{len(found) - MAX_GROUPS + 1} {OTHERS}"], new[places], None)


def _held(names: list[str], places: NDArray[Any], cut_at: tuple[float, ...] | None) -> Groups:
    """Without the groups that no row is in."""
    held = np.unique(places)
    return Groups(tuple(names[place] for place in held), np.searchsorted(held, places), cut_at)
