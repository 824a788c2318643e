"""How numbers are written in pictures, and where an axis has its ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """Three significant digits: 0.0123, 12,300, 1.23e-7."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    if not -4 <= exponent < 6:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{round(value, 2 - exponent):,.{max(0, 2 - exponent)}f}"


def signed(value: float) -> str:
    """A number with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


@dataclass(frozen=True, slots=True)
class Ticks:
    """Round numbers along an axis, written with what they have in common taken out.

    Attributes:
        places: where they are, in data units.
        labels: as written.
        factor: what to multiply labels by, e.g. " × 10⁻⁷"; empty for ordinary numbers.
    """

    places: tuple[float, ...]
    labels: tuple[str, ...]
    factor: str


def ticks(low: float, high: float, most: int) -> Ticks:
    """At most so many steps of 1, 2 or 5 times a power of ten from `low` to `high`."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return Ticks((low,), (number(low),), "")
    rough = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    places = tuple(count * step for count in range(first, last + 1))
    largest = max(abs(low), abs(high))
    exponent = math.floor(math.log10(largest))
    # 0.001 and 100,000 are still read at a glance.
    shared = exponent if not -4 < exponent < 6 else 0
    decimals = max(0, shared - math.floor(math.log10(step) + 1e-9))
    labels = tuple(f"{place / 10.0**shared:,.{decimals}f}".replace("-", MINUS) for place in places)
    factor = f" × 10{str(shared).translate(_RAISED)}" if shared else ""
    return Ticks(places, labels, factor)
