"""The waterfall: how a prediction comes about, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.caption import Caption, PictureFormat, Theme, short
from explain.pictures.canvas import Strokes
from explain.pictures.fonts import width_of
from explain.pictures.page import SMALL_SIZE, Axis, Page, check_finite, kept_inside
from explain.pictures.rows import (
    GAP,
    ROW_HEIGHT,
    THICKNESS,
    Row,
    amounts_width,
    draw_bar,
    known,
    label_width,
    largest_rows,
    write_labels,
)
from explain.pictures.words import describe_rows

RESIDUAL_SHOWN = 0.005
"""A residual above this part of the picture's range has a row of its own."""


def waterfall(
    names: Sequence[str],
    values: Sequence[Any],
    attributions: NDArray[np.float64],
    half_widths: NDArray[np.float64],
    caption: Caption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """How the prediction comes about: from the base value, feature by feature, to the value.

    The largest attributions stand on top; those beyond the first fifteen are summed in one bar. What the attributions
    leave between base value and value has a grey bar of its own.

    Args:
        names, values: of each feature, in the order of `attributions`; a value of None is not shown.
        attributions, half_widths: `(n_features,)`; half-widths of the 95 % intervals are drawn as error bars, except
            where they are 0 (exact) or NaN (not known).
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.

    Raises:
        NothingToDraw: an attribution is not a finite number, or there is none.
    """
    check_finite(attributions)
    rows = _with_residual(largest_rows(names, values, attributions, half_widths), caption)
    page = Page(caption, width, theme)
    ends = caption.base_value + np.cumsum([row.attribution for row in reversed(rows)])[::-1]
    errors = np.array([known(row.half_width) for row in rows])
    low = min(caption.base_value, caption.value, float((ends - errors).min()))
    high = max(caption.base_value, caption.value, float((ends + errors).max()))
    labels = label_width(page, rows)
    axis = Axis.over(low, high, page.left + labels + GAP + 4, page.right - amounts_width(rows))

    top = page.top + 20

    def middle(place: int) -> float:
        return top + (place + 0.5) * ROW_HEIGHT

    bottom = top + len(rows) * ROW_HEIGHT
    base_x, value_x = axis.place(caption.base_value), axis.place(caption.value)
    page.canvas.add(
        Strokes([[(base_x, top - 2), (base_x, bottom + 4)]], page.palette.line, dashed=True),
        Strokes([[(value_x, top - 4), (value_x, top + 4)]], page.palette.line),
    )
    _mark(page, f"{short(caption.value)} here", value_x, top - 12)
    write_labels(page, rows, labels, middle)
    start = caption.base_value
    for place in reversed(range(len(rows))):
        end = draw_bar(page, axis, rows[place], start, middle(place))
        if place:
            x, low_y = axis.place(end), middle(place) - THICKNESS / 2
            page.canvas.add(Strokes([[(x, low_y), (x, low_y - (ROW_HEIGHT - THICKNESS))]], page.palette.line))
        start = end
    _mark(page, f"{short(caption.base_value)} on average", base_x, bottom + 12)
    end_of_axis = page.axis(axis, bottom + 24, caption.output)
    return page.finish(end_of_axis, describe_rows("Waterfall", rows, caption), picture_format)


def _with_residual(rows: list[Row], caption: Caption) -> list[Row]:
    total = sum(row.attribution for row in rows)
    residual = caption.value - caption.base_value - total
    reach = max(abs(caption.value - caption.base_value), *(abs(row.attribution) for row in rows))
    if abs(residual) <= RESIDUAL_SHOWN * reach:
        return rows
    return [*rows, Row("not attributed", None, residual, 0.0, "residual")]


def _mark(page: Page, text: str, x: float, y: float) -> None:
    x = kept_inside(x, width_of(text, SMALL_SIZE), page.left, page.right)
    page.write((x, y), text, SMALL_SIZE, anchor="middle", colour=page.palette.quiet)
