"""The channel-by-time strip: the curves of a series, and below them a cell for each (window, channel)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explain.caption import Caption, PictureFormat, Theme
from explain.pictures.canvas import Point, Rectangle, Strokes
from explain.pictures.fonts import cut, plain, width_of
from explain.pictures.numbers import MINUS, number, signed
from explain.pictures.page import SMALL_SIZE, TEXT_SIZE, Axis, ColourBar, Page, Ramp, check_finite
from explain.pictures.style import diverging, name_of
from explain.pictures.words import describe_series

MOST_CHANNELS = 12
CURVE_HEIGHT, CELL_HEIGHT, NUMBERS_WIDTH = 46.0, 22.0, 58.0


def series(
    steps: NDArray[np.float64],
    channels: Sequence[str],
    windows: Sequence[tuple[int, int]],
    attributions: NDArray[np.float64],
    caption: Caption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """The curve of each channel above, the attribution of each of its windows below, on one axis of time.

    Of more than twelve channels, those with the largest attributions are shown and the others summed in one line.

    Args:
        steps: `(n_steps, n_channels)`; NaN where a value is missing.
        channels: their names.
        windows: half-open, in steps.
        attributions: `(n_windows, n_channels)`.
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.

    Raises:
        NothingToDraw: an attribution is not a finite number, or there is none.
    """
    check_finite(attributions)
    page = Page(caption, width, theme)
    order = np.argsort(-np.abs(attributions).sum(axis=0), kind="stable")
    most = MOST_CHANNELS if len(order) <= MOST_CHANNELS else MOST_CHANNELS - 1
    shown = sorted(order[:most].tolist())  # as they were given
    rest = order[most:]
    names = [plain(channels[i]) for i in shown]
    cells = attributions[:, shown]
    if len(rest):
        names.append(f"{len(rest):,} other channels")
        cells = np.column_stack([cells, attributions[:, rest].sum(axis=1)])
    limit = float(np.abs(cells).max()) or 1.0
    ramp = Ramp(diverging, limit, page.palette)

    labels = min(max(width_of(name, TEXT_SIZE) for name in names), 0.3 * page.room)
    axis = Axis.over(0, max(len(steps), 1), page.left + labels + NUMBERS_WIDTH, page.right - 4)
    colours = [[name_of(ground) for ground in line] for line in ramp(cells.T)]
    y = page.top
    for place, channel in enumerate(shown):
        _curve(page, axis, steps[:, channel], y)
        page.write((page.left + labels, y + CURVE_HEIGHT / 2), names[place], anchor="end", room=labels)
        y += CURVE_HEIGHT + 6
    y += 6
    for place, name in enumerate(names):
        page.write((page.left + labels, y + CELL_HEIGHT / 2), cut(name, TEXT_SIZE, labels), anchor="end")
        for (start, end), share, colour in zip(windows, cells[:, place].tolist(), colours[place], strict=True):
            left, right = axis.place(start), axis.place(end)
            tip = f"{name}, steps {start} to {end - 1}: {signed(share)}"
            # A gap between windows as long as they are not mere lines.
            gap = 1.0 if right - left > 4 else 0.0
            page.canvas.add(Rectangle(left, y, right - left - gap, CELL_HEIGHT - 2, colour, tip))
        edges = [
            (axis.start, y - 1),
            (axis.end, y - 1),
            (axis.end, y + CELL_HEIGHT - 1),
            (axis.start, y + CELL_HEIGHT - 1),
        ]
        page.canvas.add(Strokes([[*edges, edges[0]]], page.palette.line, 0.7))
        y += CELL_HEIGHT
    y = page.axis(axis, y + 2, "step") + 6
    bar_width = min(420.0, page.room - 16)
    bar = ColourBar(-limit, limit, ramp, f"{caption.output} per window and channel", ("against", "for"))
    bottom = page.colour_bar(bar, page.right - 8 - bar_width, y, bar_width)
    description = describe_series(list(map(plain, channels)), windows, attributions, len(steps), caption)
    return page.finish(bottom, description, picture_format)


def _curve(page: Page, axis: Axis, values: NDArray[np.float64], top: float) -> None:
    palette = page.palette
    there = values[np.isfinite(values)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
    span = high - low
    bottom = top + CURVE_HEIGHT
    page.canvas.add(Strokes([[(axis.start, bottom), (axis.end, bottom)]], palette.line, 0.7))

    def height_of(value: float) -> float:
        part = (value - low) / span if span > 0 else 0.5
        return bottom - 3 - part * (CURVE_HEIGHT - 6)

    lines: list[list[Point]] = [[]]
    for x, value in _thinned(values, axis):
        if np.isfinite(value):
            lines[-1].append((x, height_of(value)))
        elif lines[-1]:
            lines.append([])
    # A step alone between two missing ones is a short line.
    lines = [
        line if len(line) > 1 else [(line[0][0] - 1, line[0][1]), (line[0][0] + 1, line[0][1])]
        for line in lines
        if line
    ]
    page.canvas.add(Strokes(lines, palette.ink, 1.3, sharp=False))
    if there.size:
        ends = [(top + 5, high), (bottom - 4, low)] if span > 0 else [(top + CURVE_HEIGHT / 2, high)]
        for y, value in ends:
            text = number(value).replace("-", MINUS, 1)
            page.write(
                (axis.start - 5, y), text, SMALL_SIZE, anchor="end", colour=palette.quiet, room=NUMBERS_WIDTH - 8
            )


def _thinned(values: NDArray[np.float64], axis: Axis) -> list[tuple[float, float]]:
    """Points of the curve: of many steps, the lowest and the highest under each pixel, so that no peak is lost."""
    pixels = int(axis.end - axis.start)
    if len(values) <= 2 * pixels:
        return [(axis.place(step + 0.5), float(value)) for step, value in enumerate(values)]
    points: list[tuple[float, float]] = []
    for part in np.array_split(np.arange(len(values)), pixels):
        found = values[part]
        there = found[np.isfinite(found)]
        x = axis.place(float(part.mean()) + 0.5)
        points += [(x, float(there.min())), (x, float(there.max()))] if there.size else [(x, float("nan"))]
    return points
