"""NPZ files: one array `X` (columns, images or series) or an array for each column, and a target."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.public import without_folders
from models.signature import FeatureKind
from models.sources.archives import checked_entries
from models.sources.source import Source, WholeFeature, refused

MATRIX, TARGET, NAMES = "X", "y", "feature_names"
_BATCH_ROWS = 65_536
_CHUNK_ROWS = 1024
_SHAPES = (
    f"arrays of as many rows each: {MATRIX!r} as (rows, columns), (rows, steps, channels) or (rows, height, width, "
    "channels), or an array for each column"
)


def open_arrays(path: Path, *, expanded_limit_bytes: int) -> Source:
    """Reads the headers of the arrays, and never an object: nothing in the file is unpickled.

    Raises:
        UnreadableData: naming the array that does not fit.
    """
    entries = checked_entries(path, expanded_limit_bytes=expanded_limit_bytes)
    headers = {entry.filename.removesuffix(".npy"): _header(path, entry) for entry in entries}
    names = _feature_names(path, headers)
    rows = {shape[0] for shape, _ in headers.values() if shape}
    if len(rows) != 1 or any(not shape for shape, _ in headers.values()):
        found = ", ".join(f"{name} {shape}" for name, (shape, _) in list(headers.items())[:8])
        raise refused(_SHAPES, found or "no array", "the first axis of each is its rows")
    n_rows = rows.pop()
    if n_rows == 0:
        raise refused("rows", "arrays without a row")
    deep = [name for name, (shape, _) in headers.items() if len(shape) > 2]
    flat = {name: shape for name, (shape, _) in headers.items() if len(shape) == 2}
    if len(deep) > 1 or (deep and len(headers) > 2) or any(len(headers[name][0]) > 4 for name in deep):
        received = f"the array {deep[0]!r} of shape {headers[deep[0]][0]} beside {len(headers) - 1} others"
        raise refused(_SHAPES, received, "an image or a series stands alone with its target")
    columns: dict[str, tuple[str, int | None]] = {}
    for name, (shape, _) in headers.items():
        if name in deep:
            continue
        if name in flat and shape[1] > 1:
            given = names if names is not None and name == MATRIX else [f"{name}{i}" for i in range(shape[1])]
            columns |= {column: (name, i) for i, column in enumerate(given)}
        else:
            columns[name] = (name, 0 if name in flat else None)
    if len(columns) + len(deep) < 2:
        cure = "save the target beside it: numpy.savez(FILE, X=..., y=...)"
        raise refused("a target and at least one feature", f"one array, {next(iter(headers))!r}", cure)
    whole = _whole(path, deep[0], headers[deep[0]]) if deep else None

    def batches() -> Iterator[Any]:
        with np.load(path, allow_pickle=False) as file:
            arrays = {array: file[array] for array in {array for array, _ in columns.values()}}
        for start in range(0, n_rows, _BATCH_ROWS):
            cut = {
                column: _arrow(arrays[array][start : start + _BATCH_ROWS], index)
                for column, (array, index) in columns.items()
            }
            yield pa.record_batch(cut)

    return Source(
        "npz", (*columns, *deep), batches, parses_text=False, whole=whole,
        reading={"arrays": {name: f"{kind} {shape}" for name, (shape, kind) in headers.items()}},
    )  # fmt: skip


def _header(path: Path, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, which must be as large as its file says."""
    name = entry.filename
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if read is None:
                raise ValueError(f"version {version}")
            shape, _, kind = read(file)
            begins = file.tell()
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise refused(
            "arrays as numpy.savez writes them", f"{name[:100]!r}, which is none ({without_folders(str(error))})"
        ) from None
    if kind.hasobject:
        raise refused(
            "arrays of numbers, truth values, dates or strings",
            f"the array {name[:100]!r} of Python objects",
            "objects would have to be unpickled, which can run code: save strings with dtype=str",
        )
    if kind.kind not in "biufUM":
        cure = "convert it, or leave it out"
        raise refused("arrays of numbers, truth values, dates or strings", f"the array {name[:100]!r} of {kind}", cure)
    if math.prod(shape) * kind.itemsize != entry.file_size - begins:
        raise refused(f"{math.prod(shape) * kind.itemsize:,} bytes for {name[:100]!r}", f"{entry.file_size - begins:,}")
    return shape, kind


def _feature_names(path: Path, headers: dict[str, tuple[tuple[int, ...], Any]]) -> list[str] | None:
    """The names of the columns of `X`, taken out of the arrays; None where there are none."""
    if NAMES not in headers or MATRIX not in headers or len(headers[MATRIX][0]) != 2:
        return None
    shape, kind = headers.pop(NAMES)
    width = headers[MATRIX][0][1]
    if shape != (width,) or kind.kind != "U":
        raise refused(f"{width} strings in {NAMES!r}, one for each column of {MATRIX!r}", f"{kind} of shape {shape}")
    with np.load(path, allow_pickle=False) as file:
        names = file[NAMES].tolist()
    if len(set(names)) < width or not all(names) or TARGET in names:
        raise refused(f"a different name for each column in {NAMES!r}", ", ".join(names)[:200])
    return names


def _whole(path: Path, name: str, header: tuple[tuple[int, ...], Any]) -> WholeFeature:
    shape, kind = header
    if kind.kind not in "biuf":
        raise refused(f"numbers in {name!r}", f"{kind}")
    possible: tuple[FeatureKind, ...] = ("image",) if len(shape) == 4 else ("series", "image")

    def chunks() -> Iterator[NDArray[np.float32]]:
        with np.load(path, allow_pickle=False) as file:
            rows = file[name]
        for start in range(0, len(rows), _CHUNK_ROWS):
            yield rows[start : start + _CHUNK_ROWS].astype(np.float32)

    return WholeFeature(name, possible[0], possible, shape[1:], shape[0], chunks)


def _arrow(array: NDArray[Any], index: int | None) -> Any:
    values = array if index is None else array[:, index]
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    if values.dtype.kind == "M":
        return pa.array(values.astype("datetime64[ms]"))
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    return pa.array(np.ascontiguousarray(values))
