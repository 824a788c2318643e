"""Dates: how far on they are, and where in their year, month, week and day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from models.encoding.dates import days_of
from models.preprocessing.numbers import ColumnRules, fill_of, standardized
from models.spec.preprocessing import DATE_PARTS, ConstantSpec, DatePart

ops: Any = keras.ops

DEFAULT_PARTS: tuple[DatePart, ...] = ("trend", "season", "weekday")


def encoded_dates(days: Any, rows: NDArray[np.float32], columns: Sequence[ColumnRules]) -> list[Any]:
    """Dates as a network learns from them.

    Their parts are those that the rules name, else the trend, the season and the weekday, and the hour where the train
    rows hold times of day.

    Args:
        days: a tensor `(None, n)`, days since 1970; NaN where missing.
        rows: the train rows, `(n_rows, n)`.
    """
    table = rows.astype(np.float64)
    parts = []
    if any(column.feature.nullable for column in columns):
        missing = ops.isnan(days)
        indicated = [
            place
            for place, column in enumerate(columns)
            if column.rules.missing == "indicator" and np.isnan(table[:, place]).any()
        ]
        if indicated:
            parts = [ops.cast(ops.take(missing, indicated, axis=1), "float32")]
        fills = np.array([_fill(table[:, place], column) for place, column in enumerate(columns)], np.float32)
        days = ops.where(missing, fills, days)
        table = np.where(np.isnan(table), fills, table)
    for part in DATE_PARTS:
        places = [place for place, column in enumerate(columns) if part in _parts_of(column, table[:, place])]
        if places:
            of_these = days if len(places) == len(columns) else ops.take(days, places, axis=1)
            parts += _PARTS[part](of_these, table[:, places])
    return parts


class Civil(NamedTuple):
    """A day of the Gregorian calendar; `since_march` are the days since the last 1 March."""

    year: Any
    month: Any
    day: Any
    since_march: Any


def civil(days: Any, xp: Any) -> Civil:
    """The calendar days of whole days since 1970.

    Counted from 1 March 0000, as Neri and Schneider 2022 ("Euclidean affine functions and their application to calendar
    algorithms", section 6) do, so that the leap day is the last of its year. Every number is a whole one that float32
    holds; a half is added before a division, so that its rounding never crosses a whole number.

    Args:
        days: an array or a tensor of whole numbers.
        xp: the library that it belongs to.
    """

    def divided(number: Any, by: float) -> Any:
        return xp.floor((number + 0.5) / by)

    number = days + 719_468.0
    era = divided(number, 146_097.0)
    of_era = number - era * 146_097.0
    century = divided(4.0 * of_era + 3.0, 146_097.0)
    of_century = of_era - divided(146_097.0 * century, 4.0)
    year_of_century = divided(4.0 * of_century + 3.0, 1_461.0)
    of_year = of_century - divided(1_461.0 * year_of_century, 4.0)
    month = divided(5.0 * of_year + 2.0, 153.0)
    day = of_year - divided(153.0 * month + 2.0, 5.0) + 1.0
    late = xp.floor(month / 10.0)
    year = 400.0 * era + 100.0 * century + year_of_century + late
    return Civil(year, month + 3.0 - 12.0 * late, day, of_year)


def _parts_of(column: ColumnRules, days: NDArray[np.float64]) -> tuple[DatePart, ...]:
    if column.rules.dates is not None:
        return column.rules.dates
    return (*DEFAULT_PARTS, "hour") if (days != np.floor(days)).any() else DEFAULT_PARTS


def _fill(days: NDArray[np.float64], column: ColumnRules) -> float:
    rule = column.rules.missing
    if isinstance(rule, ConstantSpec):
        written = days_of(rule.constant) if isinstance(rule.constant, str) else None
        # A number for all features is none for a date.
        return float(np.nanmedian(days)) if written is None else written
    return fill_of(days, column)


def _trend(days: Any, table: NDArray[np.float64]) -> list[Any]:
    return [standardized(days, table, "date_trend")]


def _year(days: Any, table: NDArray[np.float64]) -> list[Any]:
    return [standardized(civil(ops.floor(days), ops).year, civil(np.floor(table), np).year, "date_year")]


def _season(days: Any, _: NDArray[np.float64]) -> list[Any]:
    # From whole days: in float32 a part of a year that is cut from 54 of them is not exact to 1e-5.
    return _turned(civil(ops.floor(days), ops).since_march / 366.0)


def _month(days: Any, _: NDArray[np.float64]) -> list[Any]:
    return [_each(civil(ops.floor(days), ops).month, np.arange(1, 13))]


def _day(days: Any, _: NDArray[np.float64]) -> list[Any]:
    return _turned((civil(ops.floor(days), ops).day - 1.0) / 31.0)


def _weekday(days: Any, _: NDArray[np.float64]) -> list[Any]:
    # 1970-01-01 was a Thursday.
    number = ops.floor(days) + 3.0
    return [_each(number - 7.0 * ops.floor((number + 0.5) / 7.0), np.arange(7))]


def _hour(days: Any, _: NDArray[np.float64]) -> list[Any]:
    return _turned(days - ops.floor(days))


_PARTS: dict[DatePart, Callable[[Any, NDArray[np.float64]], list[Any]]] = {
    "trend": _trend,
    "year": _year,
    "season": _season,
    "month": _month,
    "day": _day,
    "weekday": _weekday,
    "hour": _hour,
}


def _turned(turns: Any) -> list[Any]:
    """Parts of a turn as a point on the circle, so that the end of a cycle is beside its beginning."""
    angles = turns * (2 * np.pi)
    return [ops.sin(angles), ops.cos(angles)]


def _each(numbers: Any, values: NDArray[np.int64]) -> Any:
    """A 0 or 1 for each of some values: `(None, n)` to `(None, n * n_values)`."""
    n_columns = numbers.shape[1]
    equal = ops.equal(ops.expand_dims(numbers, -1), values.astype(np.float32))
    return ops.reshape(ops.cast(equal, "float32"), (-1, n_columns * len(values)))
