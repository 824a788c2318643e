"""Files of every kind for tests, by stated rules."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.sources.profile import Profile
from models.sources.reading import profile_file


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def profile_of_text(folder: Path, content: str | bytes) -> Profile:
    return profile_file(write(folder / "table.csv", content))


def csv_of(columns: Mapping[str, Iterable[Any]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(path: Path, entries: Mapping[str, bytes] | Iterable[tuple[zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items() if isinstance(entries, Mapping) else entries:
            archive.writestr(name, content)
    return path


def digit_images(path: Path, n_images: int, folder: str = "") -> Path:
    """The first of scikit-learn's digits, scaled to 0..240, in a folder for each label."""
    return zip_of(path, {f"{folder}{name}": png(pixels) for name, pixels in digits_by_label(n_images).items()})


def digits_by_label(n_images: int) -> dict[str, np.ndarray]:
    """The first of scikit-learn's digits, scaled to 0..240, by label and number."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return {f"{bunch.target[i]}/{i:04d}.png": bunch.images[i] * 15 for i in range(n_images)}


def enlarged(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same picture on more pixels."""
    return np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST))


def folder_of(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
