"""Bars: attributions of one row from zero, and mean magnitudes over a data set, both with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.caption import Caption, GlobalCaption, PictureFormat, Theme
from explain.pictures.canvas import Rectangle, Strokes
from explain.pictures.fonts import plain, width_of
from explain.pictures.numbers import number
from explain.pictures.page import TEXT_SIZE, Axis, Page, check_finite
from explain.pictures.rows import (
    GAP,
    MAX_ROWS,
    ROW_HEIGHT,
    THICKNESS,
    Row,
    amounts_width,
    draw_bar,
    draw_interval,
    known,
    label_width,
    largest_rows,
    write_labels,
)
from explain.pictures.words import describe_importance, describe_rows


def bars(
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
    """Attributions side by side, each from zero: for comparing them, and for saliency, which adds up to nothing.

    Arguments and errors as of `waterfall`.
    """
    check_finite(attributions)
    rows = largest_rows(names, values, attributions, half_widths)
    page = Page(caption, width, theme)
    low = min(0.0, *(row.attribution - known(row.half_width) for row in rows))
    high = max(0.0, *(row.attribution + known(row.half_width) for row in rows))
    labels = label_width(page, rows)
    axis = Axis.over(low, high, page.left + labels + GAP + 4, page.right - amounts_width(rows))
    top = page.top
    write_labels(page, rows, labels, lambda place: top + (place + 0.5) * ROW_HEIGHT)
    for place, row in enumerate(rows):
        draw_bar(page, axis, row, 0.0, top + (place + 0.5) * ROW_HEIGHT)
    bottom = top + len(rows) * ROW_HEIGHT + 2
    zero = axis.place(0.0)
    page.canvas.add(Strokes([[(zero, top), (zero, bottom)]], page.palette.line))
    end = page.axis(axis, bottom, f"attribution to the {caption.output}")
    return page.finish(end, describe_rows("Bars", rows, caption), picture_format)


def importance(
    names: Sequence[str],
    means: NDArray[np.float64],
    intervals: NDArray[np.float64],
    caption: GlobalCaption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """How much each feature matters over a data set: the mean magnitude of its attributions, the largest on top.

    Args:
        means: `(n_features,)`, of |attribution| over the rows.
        intervals: `(n_features, 2)`, the low and the high end of the 95 % interval of each; NaN where not known.

    Of more than fifteen features the smallest are not shown, and counted.

    Raises:
        NothingToDraw: a mean is not a finite number, or there is none.
    """
    check_finite(means)
    order = np.argsort(-means, kind="stable")[:MAX_ROWS].tolist()
    half_widths = (intervals[:, 1] - intervals[:, 0]) / 2
    rows = [Row(plain(names[i]), None, float(means[i]), float(half_widths[i])) for i in order]
    page = Page(caption, width, theme)
    labels = label_width(page, rows)
    amounts = max(width_of(number(row.attribution), TEXT_SIZE) for row in rows) + GAP
    ends = np.nan_to_num(intervals[order], nan=0.0)
    # Magnitudes begin at zero, also where all are zero.
    high = max(float(ends.max()), float(means.max())) or 1.0
    axis = Axis.over(0.0, high, page.left + labels + GAP + 4, page.right - amounts)
    top = page.top
    write_labels(page, rows, labels, lambda place: top + (place + 0.5) * ROW_HEIGHT)
    for place, (i, row) in enumerate(zip(order, rows, strict=True)):
        y = top + (place + 0.5) * ROW_HEIGHT
        right = max(axis.place(row.attribution), axis.start + 1)
        page.canvas.add(
            Rectangle(axis.start, y - THICKNESS / 2, right - axis.start, THICKNESS, page.palette.strength, row.label)
        )
        right = max(right, draw_interval(page, axis, float(intervals[i, 0]), float(intervals[i, 1]), y))
        page.write((right + GAP, y), number(row.attribution))
    bottom = top + len(rows) * ROW_HEIGHT + 2
    page.canvas.add(Strokes([[(axis.start, top), (axis.start, bottom)]], page.palette.line))
    end = page.axis(axis, bottom, f"mean |attribution| to the {caption.output}")
    hidden = len(means) - len(rows)
    note = f"{hidden:,} smaller features not shown" if hidden else ""
    return page.finish(end, describe_importance(rows, caption), picture_format, note)
