"""The beeswarm: for each feature, the attributions of all rows of a data set, coloured by the feature's value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.caption import GlobalCaption, PictureFormat, Theme
from explain.pictures.canvas import Raster, Strokes
from explain.pictures.fonts import plain, width_of
from explain.pictures.page import BAR_HEIGHT, SMALL_SIZE, Axis, Page, check_finite
from explain.pictures.rows import GAP, MAX_ROWS, Row, label_width, write_labels
from explain.pictures.style import value_colours
from explain.pictures.swarm import add_dots, beside_each_other, drawn_rows, levels_of
from explain.pictures.words import describe_beeswarm

LINE_HEIGHT = 34.0
RADIUS = 2.0
MOST_DOTS = 500


def beeswarm(
    names: Sequence[str],
    values: Sequence[Sequence[Any]],
    attributions: NDArray[np.float64],
    caption: GlobalCaption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """A dot for each row and feature, at its attribution, coloured from the feature's low values to its high ones.

    Features stand in the order of their mean magnitude; those beyond the first fifteen are counted. Of many rows five
    hundred are drawn, evenly spaced by rank in each line. Words and missing values have grey dots.

    Args:
        values: `(n_features, n_rows)`, numbers or words, None or NaN where missing.
        attributions: `(n_rows, n_features)`.
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.

    Raises:
        NothingToDraw: an attribution is not a finite number, or there is none.
    """
    check_finite(attributions)
    order = np.argsort(-np.abs(attributions).mean(axis=0), kind="stable")
    shown = order[:MAX_ROWS].tolist()
    lines = [(plain(names[i]), attributions[:, i], levels_of(values[i])) for i in shown]

    page = Page(caption, width, theme)
    rows = [Row(name, None, 0.0, 0.0) for name, _, _ in lines]
    labels = label_width(page, rows)
    low = min(0.0, *(float(found.min()) for _, found, _ in lines))
    high = max(0.0, *(float(found.max()) for _, found, _ in lines))
    axis = Axis.over(low, high, page.left + labels + GAP + 6, page.right - 6)
    top = page.top

    def middle(place: int) -> float:
        return top + (place + 0.5) * LINE_HEIGHT

    bottom = top + len(lines) * LINE_HEIGHT + 4
    page.canvas.add(
        Strokes(
            [[(axis.start, middle(i)), (axis.end, middle(i))] for i in range(len(lines))], page.palette.line, 0.5, True
        )
    )
    page.canvas.add(Strokes([[(axis.place(0.0), top), (axis.place(0.0), bottom)]], page.palette.line))
    write_labels(page, rows, labels, middle)
    for place, (_, found, levels) in enumerate(lines):
        drawn = drawn_rows(found, MOST_DOTS)
        x = np.array([axis.place(float(share)) for share in found[drawn]])
        offsets = beside_each_other(x, 2 * RADIUS, LINE_HEIGHT - 6)
        points = list(zip(x.tolist(), (middle(place) + offsets).tolist(), strict=True))
        add_dots(page, points, levels[drawn], RADIUS)
    end = page.axis(axis, bottom, f"attribution to the {caption.output}")
    end = value_bar(page, "feature's value", end + 4)
    hidden = len(order) - len(shown)
    notes = [f"{MOST_DOTS} of them drawn in each line"] if len(attributions) > MOST_DOTS else []
    notes += [f"{hidden:,} smaller features not shown"] if hidden else []
    description = describe_beeswarm([(name, found) for name, found, _ in lines], caption)
    return page.finish(end, description, picture_format, "; ".join(notes))


def value_bar(page: Page, label: str, y: float) -> float:
    """What the colours of values mean, at the right of a line of its own; returns where it ends."""
    palette = page.palette
    bar_width = 110.0
    x = page.right
    for text in ("high", None, "low", f"{label}:"):
        if text is None:
            colours = value_colours(np.linspace(0, 1, 256), palette)
            pixels = np.rint(255 * colours[None]).astype(np.uint8)
            page.canvas.add(Raster(x - bar_width, y + 3, bar_width, BAR_HEIGHT, pixels))
            x -= bar_width + 8
            continue
        room = max(40.0, x - page.left)
        x -= min(width_of(plain(text), SMALL_SIZE), room) + 8
        page.write((x + 8, y + 9), text, SMALL_SIZE, colour=palette.quiet, room=room)
    return y + 18
