"""The heatmap: an image beside itself with attributions laid over it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from explain.caption import Caption, PictureFormat, Theme
from explain.pictures.canvas import Point, Raster, Strokes
from explain.pictures.page import ColourBar, Page, Ramp, check_finite
from explain.pictures.style import Colours, Palette, colour, diverging, mixed, strength
from explain.pictures.words import describe_heatmap

SIDE_BY_SIDE_WIDTH = 560
"""Below this width the panels stand under each other, so that small cells are still seen."""
GUTTER = 24.0
MANY_PIXELS = 1024
MOST_IN_RANGE = 0.995
BACKDROP_STRENGTH = 0.24
SOLID_FROM = 0.35
"""From this part of the limit on, the colours are exactly those of the colour bar."""


def heatmap(
    image: NDArray[Any],
    value_range: tuple[float, float],
    attributions: NDArray[np.float64],
    caption: Caption,
    *,
    segments: NDArray[np.integer] | None = None,
    scale: Literal["signed", "magnitude"] = "signed",
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """The image beside itself with attributions laid over it.

    Colours diverge from the page's own colour, symmetric about zero; where a pixel has no attribution the image shows
    through in grey. Of a large image, the few pixels beyond 99.5 % of the others do not stretch the colours: the bar
    then has arrows.

    Args:
        image: `(height, width, channels)` in the units of `value_range`.
        attributions: `(height, width)`.
        segments: `(height, width)`, the number of each pixel's segment: borders are drawn, and a segment is coloured by
            its whole attribution, the sum over its pixels.
        scale: "magnitude" for saliency that has no sign (it must not be negative then).
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.

    Raises:
        NothingToDraw: an attribution is not a finite number, or there is none.
    """
    check_finite(attributions)
    page = Page(caption, width, theme)
    shown = attributions if segments is None else _summed(attributions, segments)
    limit, beyond = _limit(shown, segmented=segments is not None)
    has_sign = scale == "signed"
    ramp = Ramp(diverging if has_sign else strength, limit, page.palette)
    picture = _picture(image, value_range)
    overlay = _overlay(picture, shown, limit, ramp, page.palette)

    n_lines, n_columns = attributions.shape
    beside = page.canvas.width >= SIDE_BY_SIDE_WIDTH and n_columns <= 2 * n_lines
    panel_width = (page.room - GUTTER) / 2 if beside else page.room
    # A strip of a few lines would be too thin to be seen, a tall one would not end.
    panel_height = float(np.clip(panel_width * n_lines / n_columns, 24, 1.5 * panel_width))
    panel_width = max(
        24.0, min(panel_width, panel_height * n_columns / n_lines) if n_lines > n_columns else panel_width
    )

    page.heading("input", page.left, panel_width)
    first = (page.left, page.top + 22)
    _panel(page, picture, first, panel_width, panel_height)
    if beside:
        second = (page.left + panel_width + GUTTER, first[1])
    else:
        page.top = first[1] + panel_height + 10
        second = (page.left, page.top + 22)
    what = "attribution to" if has_sign else "saliency for"
    page.heading(f"{what} the {caption.output}", second[0], page.right - second[0])
    _panel(page, overlay, second, panel_width, panel_height)
    if segments is not None:
        borders = _borders(segments, second, panel_width, panel_height)
        page.canvas.add(Strokes(borders, page.palette.page, 2.0), Strokes(borders, page.palette.quiet, 0.8))

    unit = "per pixel" if segments is None else "per segment"
    # A narrow panel's bar may reach over the page.
    bar_x = second[0] + 8
    bar_width = max(panel_width, min(280.0, page.right - second[0])) - 16
    bar = ColourBar(
        -limit if has_sign else 0.0,
        limit,
        ramp,
        f"{caption.output} {unit}" if has_sign else f"saliency {unit}, no unit",
        ("against", "for") if has_sign else ("none", "strong"),
        beyond,
    )
    bottom = page.colour_bar(bar, bar_x, second[1] + panel_height + 8, bar_width)
    description = describe_heatmap(attributions, segments, caption, has_sign=has_sign)
    return page.finish(bottom, description, picture_format)


def _picture(image: NDArray[Any], value_range: tuple[float, float]) -> Colours:
    """`(height, width, 3)`."""
    low, high = value_range
    parts = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    return parts if parts.shape[2] == 3 else np.repeat(parts.mean(axis=2, keepdims=True), 3, axis=2)


def _overlay(picture: Colours, shown: NDArray[np.float64], limit: float, ramp: Ramp, palette: Palette) -> Colours:
    grey = picture @ (0.299, 0.587, 0.114)
    page = colour(palette.page)
    is_dark = page.sum() < 1.5
    # How far a pixel stands out from the page. Of a drawing on the other ground than the page's, the ground is what
    # there is most of; a photograph is left as it is.
    ink = grey if is_dark else 1 - grey
    is_grey = not np.ptp(picture, axis=2).any()
    if is_grey and np.median(ink) > 0.75:
        ink = 1 - ink
    backdrop = mixed(np.broadcast_to(page, (*grey.shape, 3)), np.full(3, float(is_dark)), BACKDROP_STRENGTH * ink)
    part = np.sqrt(np.clip(np.abs(shown) / limit / SOLID_FROM, 0, 1))
    return mixed(backdrop, ramp(shown), part)


def _limit(shown: NDArray[np.float64], *, segmented: bool) -> tuple[float, bool]:
    """The attribution that has the strongest colour, and whether there are larger ones."""
    sizes = np.abs(shown[shown != 0])
    if not sizes.size:
        return 1.0, False
    largest = float(sizes.max())
    if segmented or sizes.size <= MANY_PIXELS:
        return largest, False
    limit = float(np.quantile(sizes, MOST_IN_RANGE))
    return limit, limit < largest


def _summed(attributions: NDArray[np.float64], segments: NDArray[np.integer]) -> NDArray[np.float64]:
    _, members = np.unique(segments.reshape(-1), return_inverse=True)
    sums = np.bincount(members, weights=attributions.reshape(-1))
    return sums.astype(np.float64)[members].reshape(attributions.shape)


def _panel(page: Page, colours: Colours, place: Point, width: float, height: float) -> None:
    x, y = place
    page.canvas.add(Raster(x, y, width, height, np.rint(255 * colours).astype(np.uint8)))
    frame = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
    page.canvas.add(Strokes([frame], page.palette.line))


def _borders(segments: NDArray[np.integer], place: Point, width: float, height: float) -> list[list[Point]]:
    """Lines between pixels of different segments, each as long as it runs straight."""
    x, y = place
    n_lines, n_columns = segments.shape
    across, down = width / n_columns, height / n_lines
    borders: list[list[Point]] = []
    for line, differs in enumerate(segments[1:] != segments[:-1], start=1):
        borders += [[(x + a * across, y + line * down), (x + b * across, y + line * down)] for a, b in _runs(differs)]
    for column, differs in enumerate((segments[:, 1:] != segments[:, :-1]).T, start=1):
        borders += [
            [(x + column * across, y + a * down), (x + column * across, y + b * down)] for a, b in _runs(differs)
        ]
    return borders


def _runs(marks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    changes = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))
