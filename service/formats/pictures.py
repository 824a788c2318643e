"""PNG and JPEG, as bodies and as `{"b64": ...}` values: decoded, turned, converted, resized, mapped to the signature's
units."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.errors import Fault, InvalidRows, describe, pointer
from models.signature import Feature, Signature
from models.sources.depth import is_deep
from models.sources.turning import turned
from service.formats.picture_parts import excess_of_parts
from service.formats.rows import unusable

MAX_PIXELS = 4096 * 4096
"""Of one image, before it is decoded."""
MAX_REQUEST_PIXELS = 4 * MAX_PIXELS
"""Of all images of a request: each may be a few bytes that unpack to many."""
_FORMATS = ("PNG", "JPEG")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_EXPECTED = "a PNG or JPEG image"


class _Unusable(Exception):
    """What was expected of an image, and what it is."""

    def __init__(self, expected: str, received: str) -> None:
        super().__init__(expected, received)
        self.expected, self.received = expected, received


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A body that is one image: one row."""

    data: bytes

    def __len__(self) -> int:
        return 1

    def read_as(self, signature: Signature) -> NDArray[Any]:
        if signature.image is None:
            raise unusable(f"rows of {signature.kind}", "an image")
        try:
            return _pixels(_opened(self.data), signature.image)[np.newaxis]
        except _Unusable as error:
            raise unusable(error.expected, error.received, "#/inputs/0") from None


def read_picture(body: bytes, max_rows: int) -> PictureRow:  # noqa: ARG001 (it is one row)
    return PictureRow(body)


def encoded_in(row: Any, name: str) -> Any:
    """The base64 of a row that is an image as `{"b64": ...}`, by its feature's name or bare; None where it is none."""
    value = row.get(name, row) if type(row) is dict else None
    return value["b64"] if type(value) is dict and len(value) == 1 and "b64" in value else None


def decoded_rows(rows: Sequence[Any], signature: Signature) -> list[Any] | NDArray[Any]:
    """Rows with numbers in place of encoded images: one array where all were.

    Raises:
        InvalidRows: naming each image that cannot be used.
    """
    feature = signature.image
    assert feature is not None
    faults: list[Fault] = []
    opened: dict[int, Image.Image] = {}
    n_pixels = 0
    for i, row in enumerate(rows):
        encoded = encoded_in(row, feature.name)
        if encoded is None:
            continue
        place = ("inputs", i, feature.name) if feature.name in row else ("inputs", i)
        try:
            opened[i] = _opened(_bytes_of(encoded))
            n_pixels += opened[i].width * opened[i].height
            if n_pixels > MAX_REQUEST_PIXELS:
                raise _Unusable(f"images of at most {MAX_REQUEST_PIXELS:,} pixels a request", "more")
        except _Unusable as error:
            faults.append(Fault(pointer(*place), error.expected, error.received))
    pixels: dict[int, NDArray[np.float32]] = {}
    if not faults:
        for i, image in opened.items():
            try:
                pixels[i] = _pixels(image, feature)
            except _Unusable as error:
                place = ("inputs", i, feature.name) if feature.name in rows[i] else ("inputs", i)
                faults.append(Fault(pointer(*place), error.expected, error.received))
    if faults:
        raise InvalidRows(faults)
    if len(pixels) == len(rows):
        return np.stack([pixels[i] for i in range(len(rows))])
    return [pixels[i].tolist() if i in pixels else row for i, row in enumerate(rows)]


def _bytes_of(encoded: Any) -> bytes:
    if type(encoded) is not str:
        raise _Unusable("base64", describe(encoded))
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _Unusable("base64", describe(encoded)) from None


def _opened(data: bytes) -> Image.Image:
    """An image whose head is sound; its pixels are not decoded yet."""
    if (excess := excess_of_parts(data)) is not None:
        raise _Unusable("an image of as many parts as encoders write", excess)
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where warnings are errors
        raise _Unusable(f"an image of at most {MAX_PIXELS:,} pixels", "more") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise _Unusable(_EXPECTED, f"{len(data):,} bytes that are none") from None
    if image.width * image.height > MAX_PIXELS:
        raise _Unusable(f"an image of at most {MAX_PIXELS:,} pixels", f"{image.width} x {image.height}")
    if is_deep(image):
        raise _Unusable("an image of 8 bits a channel", "one of more")
    return image


def _pixels(image: Image.Image, feature: Feature) -> NDArray[np.float32]:
    """`(height, width, channels)` in the units of the feature."""
    height, width, channels = feature.shape
    if channels not in _MODES:
        raise _Unusable(f"rows of numbers: an image of this version has {channels} channels", "an encoded image")
    try:
        whole = turned(image).convert(_MODES[channels])
        # Pillow's filters widen with the reduction: what is made smaller is not aliased. Training does the same.
        size = (width, height)
        sized = whole if whole.size == size else whole.resize(size, Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError) as error:
        raise _Unusable("a whole image", f"one that breaks off ({error})"[:200]) from None
    low, high = feature.value_range
    numbers = np.asarray(sized, np.float32).reshape(feature.shape)
    return np.float32(low) + numbers * np.float32((high - low) / 255)
