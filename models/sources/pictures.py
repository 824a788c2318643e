"""A ZIP of images in class folders: the folder is the label, and every image has one size."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from models.sources.archives import checked_entries
from models.sources.source import Source, WholeFeature, refused

IMAGE, LABEL = "image", "label"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_IGNORED = ("__MACOSX",)
MAX_PIXELS = 4096 * 4096
_GREY = ("1", "L", "LA")
_LAYOUT = "a folder for each label with its images in it, as cats/1.png"


def open_pictures(path: Path, *, expanded_limit_bytes: int) -> Source:
    """Reads the size of every image. Pixels are read chunk by chunk.

    Raises:
        UnreadableData: naming the file that is no image, that lies elsewhere, or whose size is not that of the others.
    """
    entries = checked_entries(path, expanded_limit_bytes=expanded_limit_bytes)
    labelled = [(entry, label) for entry, label in _labelled(entries) if label]
    if not labelled:
        raise refused(_LAYOUT, "a ZIP without an image")
    sizes: Counter[tuple[int, int]] = Counter()
    examples: dict[tuple[int, int], str] = {}
    grey = True
    with zipfile.ZipFile(path) as archive:
        for entry, _ in labelled:
            image = _opened(archive, entry)
            size = _turned(image, entry.filename)
            sizes[size] += 1
            examples.setdefault(size, entry.filename)
            grey = grey and image.mode in _GREY
    if len(sizes) > 1:
        found = ", ".join(
            f"{count} of {width} x {height} (such as {examples[width, height]!r})"
            for (width, height), count in sizes.most_common(3)
        )
        raise refused("images of one size", found, "resize them to one size before packing them")
    (width, height), channels = next(iter(sizes)), 1 if grey else 3
    needed = len(labelled) * width * height * channels * 4
    if needed > expanded_limit_bytes:
        raise refused(
            f"at most {expanded_limit_bytes:,} bytes once it is read", f"{needed:,} bytes",
            "send fewer or smaller images, or raise VITRINE_DATASET_EXPANDED_LIMIT_BYTES",
        )  # fmt: skip

    def chunks() -> Iterator[NDArray[np.float32]]:
        with zipfile.ZipFile(path) as archive:
            for entry, _ in labelled:
                pixels = _pixels(archive, entry, "L" if grey else "RGB")
                yield pixels.reshape(1, height, width, channels).astype(np.float32)

    def batches() -> Iterator[Any]:
        yield pa.record_batch({LABEL: pa.array([label for _, label in labelled], pa.string())})

    return Source(
        "images", (IMAGE, LABEL), batches, parses_text=False, target=LABEL,
        whole=WholeFeature(IMAGE, "image", ("image",), (height, width, channels), len(labelled), chunks),
        reading={"width": width, "height": height, "channels": channels},
    )  # fmt: skip


def _labelled(entries: list[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """Each image with its label, in the order of their names; one folder around all of them is looked through."""
    kept = sorted((entry for entry in entries if not _is_ignored(entry.filename)), key=lambda entry: entry.filename)
    paths = [PurePosixPath(entry.filename) for entry in kept]
    depth = {len(path.parts) for path in paths}
    around = 1 if depth == {3} and len({path.parts[0] for path in paths}) == 1 else 0
    for entry, path in zip(kept, paths, strict=True):
        if len(path.parts) != around + 2:
            raise refused(_LAYOUT, f"{entry.filename[:100]!r}")
        if path.suffix.lower() not in ENDINGS:
            raise refused(f"images ({', '.join(ENDINGS)})", f"{entry.filename[:100]!r}", "remove what is no image")
        yield entry, path.parts[around]


def _is_ignored(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] in _IGNORED or any(part.startswith(".") for part in parts) or parts[-1] == "Thumbs.db"


def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(archive.read(entry)), formats=_FORMATS)
    except (UnidentifiedImageError, OSError, ValueError, zipfile.BadZipFile, SyntaxError):
        raise refused("an image", f"{entry.filename[:100]!r}, which is none", "remove it, or pack it anew") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise refused(f"at most {MAX_PIXELS:,} pixels an image", f"more in {entry.filename[:100]!r}") from None
    if image.width * image.height > MAX_PIXELS:
        raise refused(
            f"at most {MAX_PIXELS:,} pixels an image", f"{image.width} x {image.height} in {entry.filename[:100]!r}"
        )
    if image.mode not in (*_GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise refused(
            "images of 8 bits a channel", f"{entry.filename[:100]!r} of mode {image.mode}", "save them as 8-bit images"
        )
    return image


def _turned(image: Image.Image, name: str) -> tuple[int, int]:
    """Width and height once the image is turned as its EXIF data say."""
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, SyntaxError, ValueError) as error:
        raise refused("a whole image", f"{name[:100]!r}, which breaks off ({error})") from None
    return (image.height, image.width) if turned else (image.width, image.height)


def _pixels(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, mode: str) -> NDArray[np.uint8]:
    try:
        return np.asarray(ImageOps.exif_transpose(_opened(archive, entry)).convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise refused("a whole image", f"{entry.filename[:100]!r}, which breaks off ({error})") from None
