"""Whether an image has more than 8 bits a channel."""

from __future__ import annotations

from PIL.ImageFile import ImageFile

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def is_deep(image: ImageFile) -> bool:
    """Of an image whose pixels are not decoded yet. Of colours Pillow has no such mode: it leaves out their lower bits,
    and only how the data lie says so ("RGB;16B")."""
    return image.mode in _DEEP or any("16" in str(tile.args) for tile in image.tile)
