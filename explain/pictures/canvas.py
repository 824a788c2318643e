"""What a picture is made of: shapes and words at places in pixels, x to the right and y down. `svg.py` and `png.py`
write the same canvas, so that both formats show the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from explain.pictures.fonts import cut, plain, width_of

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """`tip`, here and below, is what a pointer over the shape in an SVG shows."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Strokes:
    """Lines through points, all of one colour and thickness. `sharp` ones run along the axes."""

    lines: Sequence[Sequence[Point]]
    colour: str
    thickness: float = 1.0
    dashed: bool = False
    sharp: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    points: Sequence[Point]
    colour: str


@dataclass(frozen=True, slots=True)
class Dots:
    points: Sequence[Point]
    radius: float
    colour: str


@dataclass(frozen=True, slots=True)
class Words:
    """`y` is the line that letters stand on; `size` their height (em) in pixels."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: Anchor = "start"
    bold: bool = False
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Raster:
    """`pixels`: `(n_lines, n_columns, 3)` uint8, stretched over the place; cells stay sharp."""

    x: float
    y: float
    width: float
    height: float
    pixels: NDArray[np.uint8]


Item = Rectangle | Strokes | Shape | Dots | Words | Raster


@dataclass
class Canvas:
    """Items in the order in which they are painted, over a page of one colour."""

    width: float
    page: str
    height: float = 0.0
    items: list[Item] = field(default_factory=list)

    def add(self, *items: Item) -> None:
        self.items.extend(items)

    def write(
        self,
        place: Point,
        text: str,
        size: float,
        colour: str,
        *,
        anchor: Anchor = "start",
        bold: bool = False,
        room: float = float("inf"),
    ) -> float:
        """Words around the middle line of `place`, cut to the room; returns how wide they became."""
        whole = plain(text)
        shown = cut(whole, size, room, bold=bold)
        x, middle = place
        tip = whole if shown != whole else ""
        self.add(Words(x, middle + 0.36 * size, shown, size, colour, anchor, bold, tip))
        return width_of(shown, size, bold=bold)
