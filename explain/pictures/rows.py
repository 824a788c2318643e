"""Features in rows: which are shown, how they are called, and how a bar with its interval is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from explain.caption import short
from explain.pictures.canvas import Rectangle, Strokes
from explain.pictures.fonts import cut, plain, width_of
from explain.pictures.numbers import MINUS, signed
from explain.pictures.page import TEXT_SIZE, Axis, Page

MAX_ROWS = 15
ROW_HEIGHT = 26.0
THICKNESS = 17.0
LABEL_PART = 0.38
GAP = 8.0


@dataclass(frozen=True, slots=True)
class Row:
    """A bar: what it stands for, its attribution, and half of its 95 % interval (0: exact, NaN: not known).

    `kind` is "rest" for the sum of those not shown, and "residual" for what the method could not attribute.
    """

    name: str
    value: str | None
    attribution: float
    half_width: float
    kind: Literal["feature", "rest", "residual"] = "feature"

    @property
    def label(self) -> str:
        return self.name if self.value is None else f"{self.name} = {self.value}"


def largest_rows(
    names: Sequence[str], values: Sequence[Any], attributions: NDArray[np.float64], half_widths: NDArray[np.float64]
) -> list[Row]:
    """The largest first; those beyond the first fifteen are summed in one row."""
    order = np.argsort(-np.abs(attributions), kind="stable")
    shown, rest = (order, order[:0]) if len(order) <= MAX_ROWS else (order[: MAX_ROWS - 1], order[MAX_ROWS - 1 :])
    rows = [
        Row(
            plain(names[i]),
            None if values[i] is None else plain(short(values[i])),
            float(attributions[i]),
            float(half_widths[i]),
        )
        for i in shown.tolist()
    ]
    if len(rest):
        # As of independent errors. Where one is not known, that of the sum is not known.
        half_width = float(np.sqrt((half_widths[rest] ** 2).sum()))
        rows.append(Row(f"{len(rest):,} other features", None, float(attributions[rest].sum()), half_width, "rest"))
    return rows


def label_width(page: Page, rows: Sequence[Row]) -> float:
    return min(max(width_of(row.label, TEXT_SIZE) for row in rows), LABEL_PART * page.room)


def write_labels(page: Page, rows: Sequence[Row], room: float, y: Callable[[int], float]) -> None:
    """Right-aligned in a column at the left. A long name is cut, so that its value stays to be read."""
    for place, row in enumerate(rows):
        label = row.label
        if row.value is not None and width_of(label, TEXT_SIZE) > room:
            value = cut(row.value, TEXT_SIZE, room / 2)
            ending = f" = {value}"
            label = cut(row.name, TEXT_SIZE, room - width_of(ending, TEXT_SIZE)) + ending
        colour = page.palette.ink if row.kind == "feature" else page.palette.quiet
        page.write((page.left + room, y(place)), label, anchor="end", colour=colour, room=room)


def amount(row: Row) -> str:
    """What is written beside a bar."""
    text = signed(row.attribution)
    return MINUS + text[1:] if text.startswith("-") else text


def draw_bar(page: Page, axis: Axis, row: Row, start: float, y: float) -> float:
    """A bar from `start` (data) around the line `y`, with its interval and its amount; returns its end (data)."""
    palette, canvas = page.palette, page.canvas
    end = start + row.attribution
    colour = palette.towards if row.attribution >= 0 else palette.against
    if row.kind == "residual":
        colour = palette.no_value
    left, right = sorted((axis.place(start), axis.place(end)))
    # What is next to nothing is still seen to be there.
    canvas.add(
        Rectangle(
            left,
            y - THICKNESS / 2,
            max(right - left, 1.0),
            THICKNESS,
            colour,
            f"{row.label}: {signed(row.attribution)}",
        )
    )
    right = max(right, draw_interval(page, axis, end - row.half_width, end + row.half_width, y))
    page.write((right + GAP, y), amount(row))
    return end


def draw_interval(page: Page, axis: Axis, low: float, high: float, y: float) -> float:
    """An error bar, on a halo that sets it off from the bar; returns its right end in pixels."""
    if not high > low:
        return float("-inf")  # exact, or not known
    left, right = axis.place(low), axis.place(high)
    lines = [[(left, y), (right, y)], [(left, y - 4), (left, y + 4)], [(right, y - 4), (right, y + 4)]]
    page.canvas.add(Strokes(lines, page.palette.page, 3.0), Strokes(lines, page.palette.ink, 1.0))
    return right


def amounts_width(rows: Sequence[Row]) -> float:
    return max(width_of(amount(row), TEXT_SIZE) for row in rows) + GAP


def known(half_width: float) -> float:
    """A half-width as far as a picture must make room for it: 0 where it is not known."""
    return half_width if half_width > 0 else 0.0
