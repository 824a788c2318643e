"""What the cells of a table say: which are missing, which are numbers, truth values or dates, and their values."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.signature import FeatureKind
from models.sources.arrow import compute as pc
from models.sources.profile import Decimal, number_in_words

NULL_SPELLINGS = (
    "", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "Null", "null", "None", "none", "?",
)  # fmt: skip
"""Cells of a text file that mean a missing value, after blanks around them are cut off."""

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
NUMBER_WITH_COMMA = r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$"
LEADING_ZERO = r"^[+-]?0\d+$"
"""A code rather than a number: as one, 01234 would lose its zero."""
_TIME = r"([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?$"
DATES: dict[str, str] = {
    "year-month-day": r"^\d{4}-\d{2}-\d{2}" + _TIME,
    "year/month/day": r"^\d{4}/\d{2}/\d{2}" + _TIME,
    "day.month.year": r"^\d{1,2}\.\d{1,2}\.\d{4}" + _TIME,
    "day/month/year": r"^(0?[1-9]|[12]\d|3[01])/(0?[1-9]|1[0-2])/\d{4}" + _TIME,
    "month/day/year": r"^(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/\d{4}" + _TIME,
}
"""Ways to write a date, and optionally a time; without a zone it is in UTC."""
_REORDERED = {
    "year/month/day": (r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3"),
    "day.month.year": (r"^(\d{2})\.(\d{2})\.(\d{4})", r"\3-\2-\1"),
    "day/month/year": (r"^(\d{2})/(\d{2})/(\d{4})", r"\3-\2-\1"),
    "month/day/year": (r"^(\d{2})/(\d{2})/(\d{4})", r"\3-\1-\2"),
}
TRUTHS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "1": 1.0, "0": 0.0}
"""Words for truth values, in any case."""


def strings_of(array: Any) -> Any:
    """The cells of a text column: blanks around them cut off, the missing ones null."""
    trimmed = pc.utf8_trim_whitespace(array)
    return pc.if_else(pc.is_in(trimmed, value_set=pa.array(NULL_SPELLINGS)), pa.scalar(None, pa.string()), trimmed)


def numbers_of(strings: Any, decimal: Decimal = ".") -> Any:
    """Strings as float64, null where a string is no number (or was null)."""
    if decimal == ",":
        fits = pc.match_substring_regex(strings, NUMBER_WITH_COMMA)
        strings = pc.replace_substring(pc.if_else(fits, strings, pa.scalar(None, pa.string())), ",", ".")
    try:
        return strings.cast(pa.float64())
    except pa.ArrowInvalid:
        fits = pc.match_substring_regex(strings, NUMBER)
        plain = pc.replace_substring_regex(
            pc.if_else(fits, strings, pa.scalar(None, pa.string())), r"^\+", "", max_replacements=1
        )
        return plain.cast(pa.float64())


def truths_of(strings: Any) -> Any:
    """Strings as 1.0 and 0.0, null where a string is no word for a truth value."""
    lower = pc.utf8_lower(strings)
    index = pc.index_in(lower, value_set=pa.array(list(TRUTHS)))
    return pc.take(pa.array(list(TRUTHS.values())), index)


def dates_of(strings: Any, form: str) -> NDArray[np.datetime64]:
    """Strings as UTC milliseconds, NaT where a string is no date of this form, or no day of the calendar."""
    fits = pc.match_substring_regex(strings, DATES[form])
    strings = pc.if_else(fits, strings, pa.scalar(None, pa.string()))
    if form in _REORDERED:
        # A day or a month of one digit is filled up first, so that ISO 8601 comes out. RE2's groups have one digit, so
        # that the 0 after the first group below is written.
        strings = pc.replace_substring_regex(strings, r"^(\d)([./])", r"0\1\2")
        strings = pc.replace_substring_regex(strings, r"^(\d{2}[./])(\d)([./])", r"\10\2\3")
        pattern, order = _REORDERED[form]
        strings = pc.replace_substring_regex(strings, pattern, order)
    zone = pc.match_substring_regex(strings, r"(Z|[+-]\d{2}:?\d{2})$")
    zoned = pc.and_(zone, pc.greater(pc.utf8_length(strings), 10))
    plain = pc.if_else(zoned, pa.scalar(None, pa.string()), strings)
    aware = pc.if_else(zoned, strings, pa.scalar(None, pa.string()))
    values = _timestamps(plain, pa.timestamp("ms"))
    if aware.null_count < len(aware):
        with_zone = _timestamps(aware, pa.timestamp("ms", tz="UTC"))
        values = np.where(np.isnat(values), with_zone, values)
    return values


def _timestamps(strings: Any, kind: Any) -> NDArray[np.datetime64]:
    try:
        parsed = strings.cast(kind)
    except pa.ArrowInvalid:
        parsed = pa.array([_timestamp(text, kind) for text in strings.to_pylist()], kind)
    return np.asarray(parsed.cast(pa.timestamp("ms")).to_numpy(zero_copy_only=False), dtype="datetime64[ms]")


def _timestamp(text: str | None, kind: Any) -> Any:
    """One date, or None when there is no such day, as on 30 February, or no way to write its fraction."""
    from datetime import datetime

    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    return value.astimezone(UTC) if kind.tz and value.tzinfo else value


def objects_of(strings: Any) -> NDArray[Any]:
    """Strings as an array of objects, None where missing."""
    if len(strings) == 0:
        return np.empty(0, dtype=object)
    return np.asarray(strings.to_numpy(zero_copy_only=False), dtype=object)


def floats_of(numbers: Any) -> NDArray[np.float64]:
    """Arrow numbers as float64, NaN where missing."""
    return np.asarray(numbers.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False))


def values_of(array: Any, kind: FeatureKind, *, decimal: Decimal = ".", date_form: str = "") -> NDArray[Any]:
    """The cells of one column as the values of a `RawColumn` of some kind.

    Args:
        array: an Arrow array; of strings whose missing ones are null, or of the type a Parquet file gave it.

    Returns:
        Missing where a cell cannot be read as that kind.
    """
    kind_of_array = array.type
    is_text = pa.types.is_string(kind_of_array)
    if kind in ("categorical", "text"):
        return objects_of(array if is_text else words_of(array))
    if kind == "date":
        if is_text:
            return dates_of(array, date_form or "year-month-day")
        return np.asarray(
            array.cast(pa.timestamp("ms"), safe=False).to_numpy(zero_copy_only=False), dtype="datetime64[ms]"
        )
    if kind == "boolean":
        if is_text:
            return floats_of(truths_of(array))
        if pa.types.is_boolean(kind_of_array):
            return floats_of(array.cast(pa.int8()))
        values = floats_of(array)
        return np.where(np.isin(values, (0.0, 1.0)), values, np.nan)
    if is_text:
        return floats_of(numbers_of(array, decimal))
    if pa.types.is_boolean(kind_of_array):
        return floats_of(array.cast(pa.int8()))
    return floats_of(array)


def words_of(array: Any) -> Any:
    """Typed cells as strings: whole numbers without a fraction, dates in ISO 8601."""
    if pa.types.is_floating(array.type):
        values = array.to_numpy(zero_copy_only=False).astype(np.float64)
        return pa.array([None if np.isnan(value) else number_in_words(value) for value in values], pa.string())
    return array.cast(pa.string())
