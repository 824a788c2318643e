"""The token strip: a text in which the ground of each token has the colour of its attribution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.caption import Caption, PictureFormat, Theme
from explain.pictures.canvas import Rectangle, Strokes, Words
from explain.pictures.fonts import plain, width_of
from explain.pictures.numbers import signed
from explain.pictures.page import ColourBar, Page, Ramp, check_finite
from explain.pictures.style import diverging, name_of, readable_on
from explain.pictures.words import describe_tokens

SIZE = 14.0
LINE_HEIGHT = 27.0
PADDING = 1.5
MOST_LINES = 40
MARKED_FROM = 0.1
"""Tokens from this part of the largest on are also marked by a line: below it for, above it against."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of the text that stays on one line; `token` is its number, None between tokens."""

    text: str
    token: int | None

    @property
    def width(self) -> float:
        return width_of(self.text, SIZE) + (2 * PADDING if self.token is not None else 0)


Line = list[Piece]


def tokens(
    text: str,
    spans: Sequence[tuple[int, int]],
    attributions: NDArray[np.float64],
    caption: Caption,
    *,
    width: int = 800,
    theme: Theme = "light",
    picture_format: PictureFormat = "png",
) -> bytes:
    """The text, each token on a ground of the colour of its attribution.

    Long texts are shown by their forty strongest lines, and each gap says how many are left out.

    Args:
        spans: half-open, in code points, in order, not overlapping. What is between them is shown without colour.
        attributions: `(n_tokens,)`.
        width: of the picture, in pixels.
        picture_format: a PNG, or an SVG; both with a title and a description in words.

    Raises:
        NothingToDraw: an attribution is not a finite number, or there is none.
    """
    check_finite(attributions)
    page = Page(caption, width, theme)
    limit = float(np.abs(attributions).max()) or 1.0
    ramp = Ramp(diverging, limit, page.palette)
    grounds = [name_of(ground) for ground in ramp(attributions)]
    y = page.top + LINE_HEIGHT / 2
    for line in strongest_lines(broken(pieces(text, spans), page.room), attributions, MOST_LINES):
        if isinstance(line, int):
            left_out = f"⋯ {line:,} weaker {'line' if line == 1 else 'lines'} ⋯"
            page.write((page.left, y), left_out, colour=page.palette.quiet)
        else:
            _draw(page, line, y, attributions / limit, grounds, attributions)
        y += LINE_HEIGHT
    bar = ColourBar(-limit, limit, ramp, f"{caption.output} per token", ("against", "for"))
    bottom = page.colour_bar(bar, page.left + 8, y, min(420.0, page.room - 16))
    words = [plain(text[start:end]) for start, end in spans]
    note = "a line below a token: for; above: against"
    return page.finish(bottom, describe_tokens(words, attributions, caption), picture_format, note)


def pieces(text: str, spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """The text cut at tokens, spaces and line ends, all of which are kept."""
    cuts: list[Piece] = []
    last = 0
    for token, (start, end) in enumerate(spans):
        cuts += _split(text[last:start], None)
        cuts += _split(text[start:end], token)
        last = max(last, end)
    return cuts + _split(text[last:], None)


def broken(parts: Sequence[Piece], room: float) -> list[Line]:
    """Lines that fit: broken at line ends and spaces, and in a word only where it is wider than a line."""
    lines: list[Line] = [[]]
    used = 0.0
    for word in _words(parts):
        wide = sum(piece.width for piece in word)
        if word[0].text == "\n":
            lines.append([])
            used = 0.0
            continue
        if used and used + wide > room and not word[0].text.isspace():
            lines.append([])
            used = 0.0
        for piece in word:
            for part in [piece] if wide <= room else _chopped(piece):
                if used and used + part.width > room:
                    lines.append([])
                    used = 0.0
                    if part.text.isspace() and part.token is None:
                        continue  # a space at which a line is broken
                lines[-1].append(part)
                used += part.width
    return lines


def strongest_lines(lines: list[Line], attributions: NDArray[np.float64], most: int) -> list[Line | int]:
    """At most so many lines, those with the largest attributions, in order; numbers count lines left out between."""
    sizes = [max((abs(attributions[p.token]) for p in line if p.token is not None), default=0.0) for line in lines]
    kept = set(sorted(range(len(lines)), key=lambda place: -sizes[place])[:most])
    shown: list[Line | int] = []
    for place, line in enumerate(lines):
        if place in kept:
            shown.append(line)
        elif shown and isinstance(shown[-1], int):
            shown[-1] += 1
        else:
            shown.append(1)
    return shown


def _draw(
    page: Page, line: Line, y: float, parts: NDArray[np.float64], grounds: list[str], attributions: NDArray[np.float64]
) -> None:
    x = page.left
    for piece in line:
        baseline = y + 0.36 * SIZE
        if piece.token is None:
            page.canvas.add(Words(x, baseline, piece.text, SIZE, page.palette.ink))
        else:
            ground, part = grounds[piece.token], float(parts[piece.token])
            ink = page.palette.ink if part == 0 else readable_on(ground)
            tip = f"{piece.text.strip()}: {signed(float(attributions[piece.token]))}"
            page.canvas.add(
                Rectangle(x + 0.5, y - 10, piece.width - 1, 20, ground, tip),
                Words(x + PADDING, baseline, piece.text, SIZE, ink),
            )
            if abs(part) >= MARKED_FROM:
                mark = y + 11.5 if part > 0 else y - 11.5
                strong = page.palette.towards if part > 0 else page.palette.against
                page.canvas.add(Strokes([[(x + 0.5, mark), (x + piece.width - 0.5, mark)]], strong, 2.0))
        x += piece.width


def _split(text: str, token: int | None) -> list[Piece]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Spaces of a token belong to it; between tokens they are where lines are broken.
    cut_at = r"\n|[^\n]+" if token is not None else r"\n|[^\S\n]+|\S+"
    return [
        Piece("\n", None) if part == "\n" else Piece(plain(part), token)
        for part in re.findall(cut_at, text)
        if part == "\n" or plain(part)
    ]


def _words(parts: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces that belong to one word, such as the parts of a subword tokenizer; spaces and line ends stand alone."""
    words: list[list[Piece]] = []
    open_word = False
    for piece in parts:
        starts = piece.text.isspace() or piece.text[:1].isspace()
        if open_word and not starts and not piece.text.isspace():
            words[-1].append(piece)
        else:
            words.append([piece])
        open_word = not piece.text.isspace() and not piece.text[-1:].isspace()
    return words


def _chopped(piece: Piece) -> list[Piece]:
    return [Piece(sign, piece.token) for sign in piece.text]
