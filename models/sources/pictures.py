"""Images in class folders, in a ZIP or in a folder: the folder is the label."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.sources.archives import checked_entries
from models.sources.depth import is_deep
from models.sources.image_folder import files_in, is_ignored, read_file
from models.sources.source import Source, WholeFeature, refused
from models.sources.strangers import other_archive
from models.sources.turning import turned, turned_size

IMAGE, LABEL = "image", "label"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 4096 * 4096
_PIXELS = f"at most {MAX_PIXELS:,} pixels an image"
_GREY = ("1", "L", "LA")
_LAYOUT = "a folder for each label with its images in it, as cats/1.png"
_ANEW = "remove it, or save it anew"
_NAMED_SIZES = 5

Read = Callable[[str], bytes]
"""The content of an image, by its name."""
Opened = Callable[[], AbstractContextManager[Read]]


def open_pictures(path: Path, *, expanded_limit_bytes: int) -> Source:
    """Reads the size of every image in a ZIP. Pixels are read image by image.

    Raises:
        UnreadableData: naming the file that is no image, or that lies elsewhere.
    """
    entries = checked_entries(path, expanded_limit_bytes=expanded_limit_bytes)

    @contextmanager
    def opened() -> Iterator[Read]:
        with zipfile.ZipFile(path) as archive:
            yield archive.read

    names = [entry.filename for entry in entries if not is_ignored(entry.filename)]
    if not any(name.lower().endswith(ENDINGS) for name in names):
        raise other_archive(names)
    return _source(names, opened, expanded_limit_bytes)


def open_picture_folder(path: Path, *, expanded_limit_bytes: int) -> Source:
    """The same of a folder.

    Raises:
        UnreadableData: as `open_pictures`; naming a link, or the size of the folder, too.
    """
    files = files_in(path)
    size = sum(file.bytes for file in files)
    if size > expanded_limit_bytes:
        raise refused(
            f"at most {expanded_limit_bytes:,} bytes of images", f"{size:,} bytes",
            "keep fewer or smaller images there, or raise VITRINE_DATASET_EXPANDED_LIMIT_BYTES",
        )  # fmt: skip

    @contextmanager
    def opened() -> Iterator[Read]:
        yield lambda name: read_file(path / name)

    if not files:
        raise refused(_LAYOUT, "a folder without an image")
    return _source([file.name for file in files], opened, expanded_limit_bytes)


def _source(names: Sequence[str], opened: Opened, expanded_limit_bytes: int) -> Source:
    labelled = list(_labelled(names))
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    with opened() as read:
        for name, _ in labelled:
            image = _opened(read, name)
            sizes[_size(image, name)] += 1
            grey = grey and image.mode in _GREY
    channels = 1 if grey else 3
    # Images of several sizes are resized while they are read: they never lie in memory as they are.
    (width, height) = next(iter(sizes)) if len(sizes) == 1 else (0, 0)
    needed = len(labelled) * width * height * channels * 4
    if needed > expanded_limit_bytes:
        raise refused(
            f"at most {expanded_limit_bytes:,} bytes once it is read", f"{needed:,} bytes",
            "give fewer or smaller images, or raise VITRINE_DATASET_EXPANDED_LIMIT_BYTES",
        )  # fmt: skip

    def chunks() -> Iterator[NDArray[np.float32]]:
        with opened() as read:
            for name, _ in labelled:
                pixels = _pixels(read, name, "L" if grey else "RGB")
                yield pixels.reshape(1, *pixels.shape[:2], channels).astype(np.float32)

    def batches() -> Iterator[Any]:
        yield pa.record_batch({LABEL: pa.array([label for _, label in labelled], pa.string())})

    if len(sizes) == 1:
        reading: dict[str, Any] = {"width": width, "height": height}
    else:
        named = [{"width": w, "height": h, "images": count} for (w, h), count in sizes.most_common(_NAMED_SIZES)]
        reading = {"different_sizes": len(sizes), "sizes": named}
    return Source(
        "images", (IMAGE, LABEL), batches, parses_text=False, target=LABEL,
        whole=WholeFeature(IMAGE, "image", ("image",), (height, width, channels), len(labelled), chunks),
        reading={**reading, "channels": channels},
    )  # fmt: skip


def resized_pixels(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """An image `(height, width, channels)` of whole numbers from 0 to 255 at another height and width.

    Pillow's bilinear filter, which takes the mean over all pixels that fall together: clients who resize with it send
    what was learned.
    """
    height, width = size
    pixels = image.astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32).reshape(
        height, width, image.shape[-1]
    )


def _labelled(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each image with its label, in the order of their names; one folder around all of them is looked through."""
    kept = sorted(names)
    paths = [PurePosixPath(name) for name in kept]
    depth = {len(path.parts) for path in paths}
    around = 1 if depth == {3} and len({path.parts[0] for path in paths}) == 1 else 0
    for name, path in zip(kept, paths, strict=True):
        if path.suffix.lower() not in ENDINGS:
            raise refused(f"images ({', '.join(ENDINGS)})", f"{name[:100]!r}", "remove what is no image")
        if len(path.parts) != around + 2:
            cure = "move it into the folder of its label: one around all of these may be there"
            raise refused(_LAYOUT, f"{name[:100]!r}", cure)
        yield name, path.parts[around]


def _opened(read: Read, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(read(name)), formats=_FORMATS)
    except (UnidentifiedImageError, OSError, ValueError, zipfile.BadZipFile, SyntaxError):
        raise refused("an image", f"{name[:100]!r}, which is none", _ANEW) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise refused(_PIXELS, f"more in {name[:100]!r}", "make it smaller") from None
    if image.width * image.height > MAX_PIXELS:
        raise refused(_PIXELS, f"{image.width} x {image.height} in {name[:100]!r}", "make it smaller")
    if is_deep(image) or image.mode not in (*_GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise refused("images of 8 bits a channel", f"{name[:100]!r}, which has others", "save them as 8-bit images")
    return image


def _size(image: Image.Image, name: str) -> tuple[int, int]:
    """Width and height once the image is turned as its EXIF data say."""
    try:
        return turned_size(image)
    except ValueError as error:
        raise refused("a whole image", f"{name[:100]!r}, which breaks off ({error})", _ANEW) from None


def _pixels(read: Read, name: str, mode: str) -> NDArray[np.uint8]:
    try:
        return np.asarray(turned(_opened(read, name)).convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise refused("a whole image", f"{name[:100]!r}, which breaks off ({error})", _ANEW) from None
