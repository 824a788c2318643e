"""A canvas as PNG, painted with matplotlib's Agg. Title and description are in its text chunks."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from explain.pictures.canvas import Canvas, Dots, Item, Raster, Rectangle, Shape, Strokes, Words
from explain.pictures.fonts import drawable, plain, properties, width_of

DOTS_PER_INCH = 72  # so that a point of a font is a pixel


def png_of(canvas: Canvas, width: int, title: str, description: str) -> bytes:
    """The canvas, `width` pixels wide."""
    words = PngInfo()
    for key, text in (("Title", title), ("Description", description)):
        words.add_itxt(key, plain(text))
    buffer = io.BytesIO()
    Image.fromarray(_painted(canvas, width)).save(buffer, "png", pnginfo=words)
    return buffer.getvalue()


def _painted(canvas: Canvas, width: int) -> NDArray[np.uint8]:
    """`(height, width, 3)`."""
    scale = width / canvas.width
    height = max(1, round(canvas.height * scale))
    painter = _Painter(width, height, scale)
    painter.paint(Rectangle(0, 0, canvas.width, canvas.height + 1, canvas.page))
    for item in canvas.items:
        painter.paint(item)
    return np.ascontiguousarray(painter.pixels[..., :3])


class _Painter:
    def __init__(self, width: int, height: int, scale: float) -> None:
        self._agg = RendererAgg(width, height, DOTS_PER_INCH)
        self._scale = scale
        # Agg counts lines from the bottom, a canvas from the top.
        self._place: Any = Affine2D().scale(scale, -scale).translate(0, height)
        self.pixels: NDArray[np.uint8] = np.asarray(self._agg.buffer_rgba())

    def paint(self, item: Item) -> None:
        match item:
            case Rectangle(x, y, width, height, colour, _):
                corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
                self._fill(Path([*corners, (x, y)], closed=True), colour, snap=True)
            case Shape(points, colour):
                self._fill(Path([*points, points[0]], closed=True), colour, snap=False)
            case Strokes(lines, colour, thickness, dashed, sharp):
                pen = self._pen(colour)
                pen.set_linewidth(thickness * self._scale)
                pen.set_snap(sharp)
                if dashed:
                    pen.set_dashes(0, [2 * self._scale, 3 * self._scale])
                for line in lines:
                    if len(line) > 1:
                        self._agg.draw_path(pen, Path(line), self._place)
            case Dots(points, radius, colour):
                pen = self._pen(colour)
                pen.set_linewidth(0)
                size = Affine2D().scale(radius * self._scale)
                self._agg.draw_markers(
                    pen, Path.unit_circle(), size, Path(np.reshape(points, (-1, 2))), self._place, _rgb(colour)
                )
            case Words(x, y, text, size, colour, anchor, bold, _):
                text = drawable(text)
                x -= {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width_of(text, size, bold=bold)
                font = properties(size * self._scale, bold=bold)
                self._agg.draw_text(self._pen(colour), x * self._scale, y * self._scale, text, font, 0)
            case Raster(x, y, width, height, pixels):
                left, top = round(x * self._scale), round(y * self._scale)
                across, down = math.ceil(width * self._scale), math.ceil(height * self._scale)
                # The mean of the cells under a pixel where there are more of them; else the nearest.
                block = np.asarray(Image.fromarray(pixels).resize((across, down), Image.Resampling.BOX))
                place = self.pixels[top : top + down, left : left + across, :3]
                place[...] = block[: place.shape[0], : place.shape[1]]

    def _fill(self, path: Path, colour: str, *, snap: bool) -> None:
        pen = self._pen(colour)
        pen.set_linewidth(0)
        pen.set_snap(snap)
        self._agg.draw_path(pen, path, self._place, _rgb(colour))

    def _pen(self, colour: str) -> Any:
        pen = self._agg.new_gc()
        pen.set_foreground(colour)
        return pen


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue
