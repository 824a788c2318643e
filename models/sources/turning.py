"""Turns images as their EXIF data say.

Pillow's own `exif_transpose` also writes the data anew without the turn, which fails where other tags are damaged.
"""

from __future__ import annotations

import struct

from PIL import Image

ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to undo each orientation (EXIF 2.32, 4.6.4)."""
_QUARTER_TURNS = (5, 6, 7, 8)
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)
"""What Pillow's reader of EXIF raises where tags are not what they say."""


def turned(image: Image.Image) -> Image.Image:
    """An image as it is to be seen. Raises `ValueError` where its EXIF data cannot be read."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def turned_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of `turned`, before it is decoded. Raises as `turned`."""
    width, height = image.size
    return (height, width) if _orientation(image) in _QUARTER_TURNS else (width, height)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ORIENTATION)
    except _DAMAGED as error:
        raise ValueError(f"its EXIF data cannot be read: {error}") from None
    return found if isinstance(found, int) else 1
