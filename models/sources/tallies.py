"""Counts over a column, batch by batch, in memory that does not grow with the rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from models.sources.arrow import compute as pc
from models.sources.cells import (
    DATES,
    LEADING_ZERO,
    floats_of,
    numbers_of,
    strings_of,
    words_of,
)

MAX_DISTINCT = 20_000
"""Different values of a column that are counted exactly."""
MAX_EXAMPLES = 3


@dataclass
class Moments:
    """Count, mean and squared deviations of numbers (Chan, Golub and LeVeque 1979), with their range."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, values: np.ndarray) -> None:
        if len(values) == 0:
            return
        count, mean = len(values), float(values.mean())
        squares = float(((values - mean) ** 2).sum())
        total, apart = self.count + count, mean - self.mean
        self.squares += squares + apart**2 * self.count * count / total
        self.mean += apart * count / total
        self.count, self.low, self.high = total, min(self.low, float(values.min())), max(self.high, float(values.max()))


@dataclass
class ColumnTally:
    """What has been seen of a column. Strings are tried as numbers, dates and truth values; typed cells are what they
    are."""

    name: str
    parses_text: bool
    rows: int = 0
    missing: int = 0
    null_spellings: Counter[str] = field(default_factory=Counter)
    numbers: int = 0
    comma_numbers: int = 0
    leading_zeros: int = 0
    truths: int = 0
    dates: Counter[str] = field(default_factory=Counter)
    infinite: int = 0
    whole: bool = True
    rising_by_one: bool = True
    words: int = 0
    moments: Moments = field(default_factory=Moments)
    comma_moments: Moments = field(default_factory=Moments)
    values: Counter[str] = field(default_factory=Counter)
    counted_rows: int = 0
    """Non-missing rows whose values are in `values`; fewer than all once there are too many."""
    strangers: list[tuple[int, str]] = field(default_factory=list)
    """Row numbers and values of the first cells that are no numbers."""
    _last: float | None = None
    _tried_as_dates: int = 0

    @property
    def present(self) -> int:
        return self.rows - self.missing

    @property
    def distinct_is_exact(self) -> bool:
        return self.counted_rows == self.present

    def add(self, array: Any) -> None:
        """Counts one batch of the column: an Arrow array."""
        if pa.types.is_string(array.type):
            self._add_strings(strings_of(array) if self.parses_text else array, array)
        else:
            self._add_typed(array)
        self.rows += len(array)

    def _add_strings(self, strings: Any, original: Any) -> None:
        self.missing += strings.null_count
        if self.parses_text and strings.null_count:
            missing = pc.utf8_trim_whitespace(original.filter(strings.is_null()))
            counts = pc.value_counts(missing).to_pylist()
            self.null_spellings.update({item["values"]: item["counts"] for item in counts})
        present = strings.drop_null()
        self._count_values(present)
        if len(present) == 0:
            return
        if not self.parses_text:
            self.words += pc.sum(pc.count_substring(present, " ")).as_py() + len(present)
            self._try_dates(present)
            return
        numbers = numbers_of(strings)
        values = self._add_numbers(numbers)
        if len(values):
            self.leading_zeros += pc.sum(pc.match_substring_regex(present, LEADING_ZERO)).as_py()
        if len(values) == len(present):
            # Whole numbers are numbers with a decimal comma, too.
            if np.all(values == np.floor(values)):
                self._add_comma_numbers(values)
            return
        self._add_comma_numbers(floats_of(numbers_of(present, ",").drop_null()))
        self._add_strangers(strings, numbers)
        self.words += pc.sum(pc.count_substring(present, " ")).as_py() + len(present)
        self.truths += pc.sum(pc.is_in(pc.utf8_lower(present), value_set=pa.array(["true", "false"]))).as_py()
        self._try_dates(present)

    def _add_typed(self, array: Any) -> None:
        kind = array.type
        if pa.types.is_floating(kind):
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
        self.missing += array.null_count
        present = array.drop_null()
        if pa.types.is_boolean(kind):
            self.truths += len(present)
            self._count_values(words_of(present))
        elif pa.types.is_temporal(kind):
            self._count_values(words_of(present))
            self.dates["typed"] += len(present)
        else:
            self._add_numbers(array.cast(pa.float64(), safe=False))
            if len(self.values) < MAX_DISTINCT:
                self._count_values(words_of(present))

    def _add_numbers(self, numbers: Any) -> np.ndarray:
        values = floats_of(numbers.drop_null())
        self.numbers += len(values)
        finite = values[np.isfinite(values)]
        self.infinite += len(values) - len(finite)
        self.moments.add(finite)
        self.whole = self.whole and bool(np.all(finite == np.floor(finite)))
        if self.rising_by_one and len(values):
            with_last = values if self._last is None else np.concatenate([[self._last], values])
            self.rising_by_one = numbers.null_count == 0 and bool(np.all(np.diff(with_last) == 1))
            self._last = float(values[-1])
        return values

    def _add_comma_numbers(self, values: np.ndarray) -> None:
        self.comma_numbers += len(values)
        self.comma_moments.add(values[np.isfinite(values)])

    def _add_strangers(self, strings: Any, numbers: Any) -> None:
        if len(self.strangers) < MAX_EXAMPLES:
            strange = np.flatnonzero(
                np.asarray(pc.and_(pc.is_valid(strings), pc.is_null(numbers)).to_numpy(zero_copy_only=False))
            )
            for row in strange[: MAX_EXAMPLES - len(self.strangers)]:
                self.strangers.append((self.rows + int(row) + 1, strings[int(row)].as_py()))

    def _try_dates(self, present: Any) -> None:
        for form, pattern in DATES.items():
            # A form that a batch before did not fit cannot be the column's.
            if self.dates[form] == self._tried_as_dates:
                self.dates[form] += pc.sum(pc.match_substring_regex(present, pattern)).as_py()
        self._tried_as_dates += len(present)

    def _count_values(self, present: Any) -> None:
        if len(self.values) >= MAX_DISTINCT:
            return
        self.counted_rows += len(present)
        counted = pc.value_counts(present)
        self.values.update(
            dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
        )
