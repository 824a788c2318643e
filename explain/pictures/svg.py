"""A canvas as SVG. Text stays text, to be searched and read aloud; title and description say what is shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image

from explain.pictures.canvas import Canvas, Dots, Item, Point, Raster, Rectangle, Shape, Strokes, Words
from explain.pictures.fonts import FAMILY, plain

# Where the first is missing, the second is about as wide.
FAMILIES = f"{FAMILY}, Verdana, sans-serif"


def svg_of(canvas: Canvas, width: int, title: str, description: str) -> bytes:
    """The canvas, shown `width` pixels wide."""
    height = round(canvas.height * width / canvas.width)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(canvas.width)} {_n(canvas.height)}" '
        f'width="{width}" height="{height}" role="img" font-family={quoteattr(FAMILIES)}>',
        f"<title>{escape(plain(title))}</title>",
        f"<desc>{escape(plain(description))}</desc>",
        f'<rect width="100%" height="100%" fill="{canvas.page}"/>',
        *(_element(item) for item in canvas.items),
        "</svg>\n",
    ]
    return "\n".join(parts).encode()


def _element(item: Item) -> str:
    match item:
        case Rectangle(x, y, width, height, colour, tip):
            place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
            return _with_tip("rect", f'{place} fill="{colour}"', tip)
        case Strokes(lines, colour, thickness, dashed, sharp):
            style_of_line = ' stroke-dasharray="2 3"' if dashed else ""
            style_of_line += ' shape-rendering="crispEdges"' if sharp else ""
            return (
                f'<path d="{"".join(_path(line) for line in lines)}" fill="none" stroke="{colour}" '
                f'stroke-width="{_n(thickness)}"{style_of_line}/>'
            )
        case Shape(points, colour):
            return f'<path d="{_path(points)}Z" fill="{colour}"/>'
        case Dots(points, radius, colour):
            # A round line that goes nowhere is a dot, in a third of the bytes of a circle.
            dots = "".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)
            return f'<path d="{dots}" stroke="{colour}" stroke-width="{_n(2 * radius)}" stroke-linecap="round"/>'
        case Words(x, y, text, size, colour, anchor, bold, tip):
            style = f"{'' if anchor == 'start' else f' text-anchor={quoteattr(anchor)}'}" + (
                ' font-weight="bold"' if bold else ""
            )
            place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{colour}"{style} xml:space="preserve"'
            return _with_tip("text", place, tip, escape(text))
        case Raster(x, y, width, height, pixels):
            # Enlarged here, since not every viewer keeps cells sharp.
            times_down, times_across = (
                max(1, round(2 * room / cells)) for room, cells in zip((height, width), pixels.shape[:2], strict=True)
            )
            buffer = io.BytesIO()
            Image.fromarray(np.repeat(np.repeat(pixels, times_down, axis=0), times_across, axis=1)).save(
                buffer, "png", optimize=True
            )
            data = base64.b64encode(buffer.getvalue()).decode()
            return (
                f'<image x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" '
                f'preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
            )


def _with_tip(tag: str, attributes: str, tip: str, content: str = "") -> str:
    inside = (f"<title>{escape(tip)}</title>" if tip else "") + content
    return f"<{tag} {attributes}>{inside}</{tag}>" if inside else f"<{tag} {attributes}/>"


def _path(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
