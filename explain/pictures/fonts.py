"""How wide words are, and how they are cut and broken to fit. The font is the one that matplotlib brings."""

from __future__ import annotations

import unicodedata
from functools import cache

from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.ft2font import FT2Font, LoadFlags

FAMILY = "DejaVu Sans"
# Where they are installed, for scripts that DejaVu Sans does not have.
OTHER_FAMILIES = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Thai")
ELLIPSIS = "…"
BOX = "\N{WHITE SQUARE}"
_MEASURED_SIZE = 1000


@cache
def properties(size: float, *, bold: bool) -> FontProperties:
    """The font at a size in pixels of a picture of 72 dots per inch."""
    return FontProperties(family=[FAMILY, *_installed()], weight="bold" if bold else "normal", size=size)


def plain(text: object) -> str:
    """One line without control characters, which neither a font nor XML has a sign for."""
    return "".join(" " if sign.isspace() else sign for sign in str(text) if sign.isspace() or not _is_control(sign))


def drawable(text: str) -> str:
    """Signs that no font here has become a box. An SVG keeps them: who shows it may have such a font."""
    return "".join(sign if _has(sign) else BOX for sign in text)


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """In the unit of `size`."""
    return sum(_advance(sign, bold) for sign in text) * size


def cut(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """The text, ended early with an ellipsis where it is wider than the room."""
    if width_of(text, size, bold=bold) <= room:
        return text
    room -= width_of(ELLIPSIS, size, bold=bold)
    kept = 0
    for sign in text:
        room -= _advance(sign, bold) * size
        if room < 0:
            break
        kept += 1
    return text[:kept].rstrip() + ELLIPSIS


def lines_of(text: str, size: float, room: float, *, most: int, bold: bool = False) -> list[str]:
    """The text broken at its spaces into at most so many lines; what does not fit the last one is cut."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most - 1 and width_of(rest, size, bold=bold) > room:
        line, words = "", rest.split(" ")
        while words and width_of(f"{line} {words[0]}".strip(), size, bold=bold) <= room:
            line = f"{line} {words.pop(0)}".strip()
        if not line:
            break  # one word that is wider than the room
        lines.append(line)
        rest = " ".join(words)
    return [*lines, cut(rest, size, room, bold=bold)] if rest else lines


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cs", "Cn", "Co")


@cache
def _installed() -> tuple[str, ...]:
    there = {font.name for font in fontManager.ttflist}
    return tuple(family for family in OTHER_FAMILIES if family in there)


@cache
def _fonts(bold: bool) -> tuple[FT2Font, ...]:
    weight = "bold" if bold else "normal"
    families = [FAMILY, *_installed()]
    return tuple(get_font(fontManager.findfont(FontProperties(family=family, weight=weight))) for family in families)


@cache
def _has(sign: str) -> bool:
    return any(font.get_char_index(ord(sign)) for font in _fonts(False))


@cache
def _advance(sign: str, bold: bool) -> float:
    for font in _fonts(bold):
        if font.get_char_index(ord(sign)):
            font.set_size(_MEASURED_SIZE, 72)
            return font.load_char(ord(sign), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / _MEASURED_SIZE
    # Drawn as a box here, and by a font we do not know elsewhere.
    return 1.0 if unicodedata.east_asian_width(sign) in "WF" else _advance(BOX, bold)
