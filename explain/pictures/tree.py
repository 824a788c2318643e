"""The tree: a decision tree read from top to bottom, its answers with the rows that come to them."""

from __future__ import annotations

from collections.abc import Sequence

from explain.caption import GlobalCaption, PictureFormat, Theme
from explain.errors import NothingToDraw
from explain.pictures.canvas import Rectangle, Strokes
from explain.pictures.fonts import plain, width_of
from explain.pictures.page import SMALL_SIZE, TEXT_SIZE, Page

LINE = 24.0
INDENT, LEAST_INDENT = 26.0, 12.0
GAP = 6.0
BAR_ROOM, BAR_HEIGHT = 80.0, 10.0
MOST_DEPTH_PART = 0.35
"""Of the picture's width, what indents may take; deep trees are indented less."""


def tree(
    depths: Sequence[int],
    branches: Sequence[str],
    words: Sequence[str],
    rows: Sequence[int],
    leaves: Sequence[bool],
    caption: GlobalCaption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """A line for each node, under the one that leads to it. An answer has a bar of its rows.

    Args:
        depths: of each node, each before its branches; the first is 0.
        branches: the answer above that leads here, "yes" or "no"; "" for the first.
        words: what it asks, or answers.
        rows: that come to it.
        leaves: whether it answers.
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.

    Raises:
        NothingToDraw: there is no node.
    """
    if not depths:
        raise NothingToDraw(0, 0)
    page = Page(caption, width, theme)
    palette, canvas = page.palette, page.canvas
    indent = max(LEAST_INDENT, min(INDENT, MOST_DEPTH_PART * page.room / max(1, *depths)))
    counts = [f"{count:,}" for count in rows]
    count_room = max(width_of(text, SMALL_SIZE) for text in (*counts, "rows"))
    bar_end = page.right - count_room - GAP
    bar_start = bar_end - min(BAR_ROOM, 0.15 * page.room)
    page.write((page.right, page.top + 8), "rows", SMALL_SIZE, colour=palette.quiet, anchor="end")
    top = page.top + 18
    middles = [top + (place + 0.5) * LINE for place in range(len(depths))]
    places: dict[int, float] = {}
    for depth, branch, text, count, shown, leaf, middle in zip(
        depths, branches, words, rows, counts, leaves, middles, strict=True
    ):
        x = page.left + depth * indent
        if depth:
            # From under the node that asks, down to this line and across to it.
            bend = x - indent + 4
            canvas.add(Strokes([[(bend, places[depth - 1] + 9), (bend, middle), (x - 2, middle)]], palette.line))
        places[depth] = middle
        if branch:
            x += page.write((x, middle), branch, SMALL_SIZE, colour=palette.quiet) + GAP
        page.write(
            (x, middle),
            text if leaf else f"{text}?",
            TEXT_SIZE,
            bold=leaf,
            room=bar_start - GAP - x,
            colour=palette.ink,
        )
        if leaf:
            wide = (bar_end - bar_start) * count / max(rows)
            canvas.add(
                Rectangle(bar_start, middle - BAR_HEIGHT / 2, wide, BAR_HEIGHT, palette.strength, f"{shown} rows")
            )
        page.write((page.right, middle), shown, SMALL_SIZE, anchor="end", colour=palette.quiet)
    return page.finish(top + len(depths) * LINE, _described(branches, words, leaves, caption), picture_format)


def _described(branches: Sequence[str], words: Sequence[str], leaves: Sequence[bool], caption: GlobalCaption) -> str:
    sentences = [
        f"{branch}: {plain(text)}" if leaf else f"{branch + ': ' if branch else ''}{plain(text)}?"
        for branch, text, leaf in zip(branches, words, leaves, strict=True)
    ]
    return f"A decision tree for {caption.output}. {'; '.join(sentences)}. {caption.summary}."
