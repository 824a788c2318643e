"""The dependence picture: the attributions of one feature over its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.caption import GlobalCaption, PictureFormat, Theme, short
from explain.pictures.beeswarm import value_bar
from explain.pictures.canvas import Rectangle, Strokes
from explain.pictures.fonts import cut, plain, width_of
from explain.pictures.numbers import number
from explain.pictures.page import SMALL_SIZE, Axis, Page, check_finite
from explain.pictures.swarm import LEVELS, add_dots, beside_each_other, drawn_rows, levels_of, numbers_of
from explain.pictures.words import describe_dependence

MOST_DOTS = 2000
MOST_WORDS = 10
RADIUS = 2.2
TREND_PARTS = 10
COUNTS_HEIGHT, COUNTS = 26.0, 40
FEW_VALUES = 10
"""A feature with at most so many values is drawn like words: a column for each."""


def dependence(
    name: str,
    values: Sequence[Any],
    attributions: NDArray[np.float64],
    caption: GlobalCaption,
    *,
    coloured_by: tuple[str, Sequence[Any]] | None = None,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """A dot for each row: the value of a feature across, its attribution up, and how many rows have such values below.

    Numbers have a line through the medians of ten parts of equally many rows. Words, and up to ten different numbers,
    have a column each with its median. Missing values have a column of their own.

    Args:
        values: `(n_rows,)`, numbers or words, None or NaN where missing.
        attributions: `(n_rows,)`.
        coloured_by: another feature and its `(n_rows,)` values: where dots of one value differ by its colour, the two
            features act together.
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.

    Raises:
        NothingToDraw: an attribution is not a finite number, or there is none.
    """
    check_finite(attributions)
    name = plain(name)
    page = Page(caption, width, theme)
    levels = levels_of(coloured_by[1]) if coloured_by else np.full(len(attributions), LEVELS // 2)
    numbers = numbers_of(values)
    if numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) <= FEW_VALUES:
        # In the order of the numbers.
        found = np.unique(numbers[np.isfinite(numbers)])
        columns, order = [short(value) if np.isfinite(value) else None for value in numbers.tolist()], map(short, found)
        numbers, first = None, list(order)
    else:
        columns, first = [None if _is_missing(value) else plain(value) for value in values], []

    low, high = min(0.0, float(attributions.min())), max(0.0, float(attributions.max()))
    margin = 0.04 * (high - low)
    height = 0.42 * page.canvas.width
    page.heading(f"attribution of {name} to the {caption.output}", page.left, page.room)
    top = page.top + 26
    upright = Axis.over(low - margin, high + margin, top + height, top, apart=34)
    if upright.ticks.factor:
        page.write((page.right, page.top + 9), upright.ticks.factor.strip(), anchor="end")
    labels = max(width_of(text, SMALL_SIZE) for text in upright.ticks.labels)
    left = page.left + labels + 8
    for place, text in zip(upright.ticks.places, upright.ticks.labels, strict=True):
        y = upright.place(place)
        page.canvas.add(Strokes([[(left, y), (page.right, y)]], page.palette.line, 0.5, dashed=place != 0))
        page.write((left - 6, y), text, SMALL_SIZE, anchor="end", colour=page.palette.quiet)

    if numbers is None:
        bottom, trend = _columns(page, columns, first, attributions, levels, upright, left)
        page.write(((left + page.right) / 2, bottom + 10), f"{name}, and rows of each", anchor="middle", room=page.room)
        bottom += 20
    else:
        bottom, trend = _scatter(page, name, numbers, attributions, levels, upright, left)
    if coloured_by:
        bottom = value_bar(page, plain(coloured_by[0]), bottom + 4)
    note = f"{MOST_DOTS:,} rows drawn" if len(attributions) > MOST_DOTS else ""
    return page.finish(bottom, describe_dependence(name, trend, caption), picture_format, note)


def _scatter(
    page: Page,
    name: str,
    numbers: NDArray[np.float64],
    attributions: NDArray[np.float64],
    levels: NDArray[np.intp],
    upright: Axis,
    left: float,
) -> tuple[float, list[tuple[str, float]]]:
    there = np.isfinite(numbers)
    known, shares = numbers[there], attributions[there]
    missing = attributions[~there]
    missing_width = 64.0 if missing.size else 0.0
    axis = Axis.over(float(known.min()), float(known.max()), left + 8, page.right - 8 - missing_width)
    drawn = drawn_rows(attributions, MOST_DOTS)
    drawn = drawn[there[drawn]]
    points = [(axis.place(float(numbers[i])), upright.place(float(attributions[i]))) for i in drawn.tolist()]
    add_dots(page, points, levels[drawn], RADIUS)
    trend: list[tuple[str, float]] = []
    if missing.size:
        _column(page, page.right - 4 - missing_width / 2, missing_width - 16, ~there, attributions, levels, upright)

    parts = np.array_split(np.argsort(known, kind="stable"), min(TREND_PARTS, len(known)))
    middles = [(float(np.median(known[part])), float(np.median(shares[part]))) for part in parts]
    line = [(axis.place(value), upright.place(share)) for value, share in middles]
    page.canvas.add(
        Strokes([line], page.palette.page, 3.5, sharp=False), Strokes([line], page.palette.ink, 1.6, sharp=False)
    )
    trend += [(number(value), share) for value, share in (middles[0], middles[len(middles) // 2], middles[-1])]

    counts_top = upright.start + 6
    counts, edges = np.histogram(known, bins=COUNTS)
    for count, start, end in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        tall = COUNTS_HEIGHT * count / counts.max()
        x = axis.place(start)
        page.canvas.add(
            Rectangle(
                x, counts_top + COUNTS_HEIGHT - tall, axis.place(end) - x - 1, tall, page.palette.line, f"{count} rows"
            )
        )
    bottom = counts_top + COUNTS_HEIGHT
    if missing.size:
        page.write((page.right - 4 - missing_width / 2, bottom + 13), "missing", SMALL_SIZE, anchor="middle")
        trend.append(("missing", float(np.median(missing))))
    return page.axis(axis, bottom, name), trend


def _columns(
    page: Page,
    columns: Sequence[str | None],
    first: list[str],
    attributions: NDArray[np.float64],
    levels: NDArray[np.intp],
    upright: Axis,
    left: float,
) -> tuple[float, list[tuple[str, float]]]:
    counted = [word for word, _ in Counter(word for word in columns if word is not None).most_common()]
    words = first or counted
    shown, others = (words, []) if len(words) <= MOST_WORDS else (words[: MOST_WORDS - 1], words[MOST_WORDS - 1 :])
    groups: list[tuple[str, NDArray[np.bool_]]] = [(word, np.array([c == word for c in columns])) for word in shown]
    if others:
        rest = set(others)
        groups.append((f"{len(others)} others", np.array([c in rest for c in columns])))
    missing = np.array([c is None for c in columns])
    if missing.any():
        groups.append(("missing", missing))
    wide = (page.right - left) / len(groups)
    trend: list[tuple[str, float]] = []
    for place, (word, members) in enumerate(groups):
        middle = left + (place + 0.5) * wide
        _column(page, middle, min(wide - 10, 90), members, attributions, levels, upright)
        found = float(np.median(attributions[members]))
        half = min(wide - 6, 60) / 2
        y = upright.place(found)
        mark = [[(middle - half, y), (middle + half, y)]]
        page.canvas.add(Strokes(mark, page.palette.page, 3.5), Strokes(mark, page.palette.ink, 1.6))
        label = cut(word, SMALL_SIZE, wide - 6)
        page.write((middle, upright.start + 11), label, SMALL_SIZE, anchor="middle")
        page.write(
            (middle, upright.start + 26),
            cut(f"{int(members.sum()):,}", SMALL_SIZE, wide - 2),
            SMALL_SIZE,
            anchor="middle",
            colour=page.palette.quiet,
        )
        trend.append((word, found))
    return upright.start + 38, trend


def _column(
    page: Page,
    middle: float,
    room: float,
    members: NDArray[np.bool_],
    attributions: NDArray[np.float64],
    levels: NDArray[np.intp],
    upright: Axis,
) -> None:
    chosen = np.flatnonzero(members)
    chosen = chosen[drawn_rows(attributions[chosen], MOST_DOTS // 4)]
    y = np.array([upright.place(float(share)) for share in attributions[chosen]])
    x = middle + beside_each_other(y, 2 * RADIUS, max(room, 4.0))
    add_dots(page, list(zip(x.tolist(), y.tolist(), strict=True)), levels[chosen], RADIUS)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
