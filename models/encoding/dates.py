"""Dates as days since 1970-01-01 in UTC, and back.

A network takes them as float32: whole days are exact, times of day to about three minutes.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

EXAMPLE = "2024-03-01"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


def days_of(written: str) -> float | None:
    """The days of a date or a time in ISO 8601, UTC where no offset is given; None for any other string."""
    try:
        moment = datetime.fromisoformat(written)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) / _DAY
    except (ValueError, OverflowError):
        return None


def written_date(days: float) -> str | None:
    """Days as ISO 8601: a date, with the time to the minute where there is one; None for NaN."""
    if math.isnan(days):
        return None
    minutes = round(days * 24 * 60)
    if minutes % (24 * 60) == 0:
        return (date(1970, 1, 1) + timedelta(days=minutes // (24 * 60))).isoformat()
    return (_EPOCH + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%MZ")
