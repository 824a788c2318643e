"""What all pictures share: the page with title and summary, axes, colour bars, and the bytes in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explain.caption import Caption, GlobalCaption, PictureFormat, Theme
from explain.errors import NothingToDraw
from explain.pictures.canvas import Anchor, Canvas, Point, Raster, Shape, Strokes
from explain.pictures.fonts import lines_of, plain, width_of
from explain.pictures.numbers import Ticks, ticks
from explain.pictures.png import png_of
from explain.pictures.style import PALETTES, Colours, Palette, name_of
from explain.pictures.svg import svg_of

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 16.0, 12.0, 11.0
MARGIN = 16.0
LEAST_WIDTH, MOST_WIDTH = 320, 800
BAR_HEIGHT = 12.0


class Page:
    """A picture in the making: its title is written, `top` is where the next thing goes.

    Letters keep their size: a picture of 400 pixels has less room than one of 800. Beyond 800 pixels a picture gets
    finer, not roomier; below 320 everything shrinks.
    """

    def __init__(self, caption: Caption | GlobalCaption, width: int, theme: Theme) -> None:
        self.palette: Palette = PALETTES[theme]
        self.caption = caption
        self.canvas = Canvas(float(min(max(width, LEAST_WIDTH), MOST_WIDTH)), self.palette.page)
        self._width = width
        self.left, self.right = MARGIN, self.canvas.width - MARGIN
        self.top = MARGIN - 2
        for line in lines_of(plain(caption.title), TITLE_SIZE, self.room, most=2, bold=True):
            self.top += 20
            self.write((self.left, self.top - 10), line, TITLE_SIZE, bold=True)
        self.top += 8

    @property
    def room(self) -> float:
        return self.right - self.left

    def write(
        self,
        place: Point,
        text: str,
        size: float = TEXT_SIZE,
        *,
        colour: str | None = None,
        anchor: Anchor = "start",
        bold: bool = False,
        room: float = float("inf"),
    ) -> float:
        """Words around the middle line of `place`, in ink unless another colour is named; returns their width."""
        colour = colour or self.palette.ink
        return self.canvas.write(place, text, size, colour, anchor=anchor, bold=bold, room=room)

    def heading(self, text: str, x: float, room: float) -> None:
        """A line over a part of the picture."""
        self.write((x, self.top + 9), text, TEXT_SIZE, room=room)

    def axis(self, axis: Axis, y: float, label: str) -> float:
        """A horizontal axis at `y`, its ticks and its label below; returns where it ends."""
        canvas, palette = self.canvas, self.palette
        canvas.add(Strokes([[(axis.start, y), (axis.end, y)]], palette.line))
        canvas.add(Strokes([[(x, y), (x, y + 4)] for x in map(axis.place, axis.ticks.places)], palette.line))
        for place, text in zip(axis.ticks.places, axis.ticks.labels, strict=True):
            x = kept_inside(axis.place(place), width_of(text, SMALL_SIZE), self.left, self.right)
            self.write((x, y + 13), text, SMALL_SIZE, colour=palette.quiet, anchor="middle")
        label += axis.ticks.factor
        middle = (axis.start + axis.end) / 2
        half = min(width_of(plain(label), TEXT_SIZE), self.room) / 2
        middle = min(max(middle, self.left + half), self.right - half)
        self.write((middle, y + 31), label, anchor="middle", room=self.room)
        return y + 40

    def colour_bar(self, bar: ColourBar, x: float, y: float, width: float) -> float:
        """A bar of the ramp between words for its ends, ticks below; returns where it ends."""
        palette, canvas = self.palette, self.canvas
        low_word, high_word = bar.ends
        label = bar.label
        axis = Axis.over(bar.low, bar.high, x, x + width, apart=56)
        label += axis.ticks.factor
        gap = 12.0
        ends_width = width_of(low_word, SMALL_SIZE) + width_of(high_word, SMALL_SIZE) + 2 * gap
        if width_of(plain(label), SMALL_SIZE) + ends_width > width:
            for line in lines_of(plain(label), SMALL_SIZE, width, most=2):
                self.write((x, y + 7), line, SMALL_SIZE, colour=palette.quiet)
                y += 15
        else:
            middle = x + (width + width_of(low_word, SMALL_SIZE) - width_of(high_word, SMALL_SIZE)) / 2
            self.write((middle, y + 7), label, SMALL_SIZE, colour=palette.quiet, anchor="middle")
        self.write((x, y + 7), low_word, SMALL_SIZE, colour=palette.quiet)
        self.write((x + width, y + 7), high_word, SMALL_SIZE, colour=palette.quiet, anchor="end")
        y += 17
        steps = 255 if bar.low < 0 else 256
        colours = bar.ramp(np.linspace(bar.low, bar.high, steps))
        canvas.add(Raster(x, y, width, BAR_HEIGHT, np.rint(255 * colours[None]).astype(np.uint8)))
        if bar.beyond:
            # Arrows: there is more than the bar shows.
            half = BAR_HEIGHT / 2
            canvas.add(
                Shape([(x + width, y), (x + width + half, y + half), (x + width, y + 2 * half)], name_of(colours[-1]))
            )
            if bar.low < 0:
                canvas.add(Shape([(x, y), (x - half, y + half), (x, y + 2 * half)], name_of(colours[0])))
        y += BAR_HEIGHT
        canvas.add(Strokes([[(mark, y), (mark, y + 3)] for mark in map(axis.place, axis.ticks.places)], palette.line))
        for place, text in zip(axis.ticks.places, axis.ticks.labels, strict=True):
            at = kept_inside(axis.place(place), width_of(text, SMALL_SIZE), x - 8, x + width + 8)
            self.write((at, y + 11), text, SMALL_SIZE, colour=palette.quiet, anchor="middle")
        return y + 20

    def finish(self, bottom: float, description: str, picture_format: PictureFormat, note: str = "") -> bytes:
        """The picture, with the caption's summary and a note under `bottom`."""
        words = plain(self.caption.summary + (f"; {note}" if note else ""))
        bottom += 8
        for line in lines_of(words, SMALL_SIZE, self.room, most=4):
            self.write((self.left, bottom + 8), line, SMALL_SIZE, colour=self.palette.quiet)
            bottom += 16
        self.canvas.height = bottom + 8
        write = png_of if picture_format == "png" else svg_of
        return write(self.canvas, self._width, self.caption.title, description)


@dataclass(frozen=True, slots=True)
class Axis:
    """Data from `low` to `high` along pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    ticks: Ticks

    @staticmethod
    def over(low: float, high: float, start: float, end: float, *, apart: float = 64) -> Axis:
        """With ticks about `apart` pixels from each other."""
        if not high > low:
            # Nothing to spread: everything is in the middle.
            reach = abs(high) or 1.0
            low, high = low - reach, high + reach
        return Axis(low, high, start, end, ticks(low, high, max(3, int(abs(end - start) / apart))))

    def place(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class ColourBar:
    """What colours mean.

    Attributes:
        ramp: data to colours.
        label: what is measured, with its unit.
        ends: words for the low and the high end.
        beyond: whether there are data beyond the ends.
    """

    low: float
    high: float
    ramp: Ramp
    label: str
    ends: tuple[str, str]
    beyond: bool = False


class Ramp:
    """From data to colours by way of parts of a limit."""

    def __init__(self, colours: Callable[[Any, Palette], Colours], limit: float, palette: Palette) -> None:
        self._colours, self._limit, self._palette = colours, limit, palette

    def __call__(self, values: Any) -> Colours:
        return self._colours(np.asarray(values) / self._limit, self._palette)


def kept_inside(middle: float, width: float, left: float, right: float) -> float:
    """The middle of words of a width that must not leave the picture."""
    return min(max(middle, left + width / 2), right - width / 2)


def check_finite(attributions: Any) -> None:
    """Raises `NothingToDraw` where an attribution is not a finite number, or where there is none."""
    values = np.asarray(attributions, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise NothingToDraw(int((~np.isfinite(values)).sum()), int(values.size))


def evenly(order: Sequence[int], most: int) -> list[int]:
    """At most so many, evenly spaced from the first to the last."""
    if len(order) <= most:
        return list(order)
    return [order[place] for place in np.linspace(0, len(order) - 1, most).round().astype(int).tolist()]
