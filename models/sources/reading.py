"""A file as data: its format found out by its content, its profile, and its columns as raw data."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.raw import RawColumn, RawData
from models.signature import FeatureKind
from models.sources.arrays import open_arrays
from models.sources.cells import strings_of, values_of
from models.sources.delimited import DELIMITERS, open_delimited
from models.sources.hashing import fast_hashes, fast_hashes_of_arrays, row_contents, sha256_of
from models.sources.image_folder import content_digest, files_in
from models.sources.kinds import profile_of
from models.sources.limits import EXPANDED_LIMIT_BYTES
from models.sources.parquet import open_parquet
from models.sources.pictures import open_picture_folder, open_pictures, resized_pixels
from models.sources.profile import ColumnProfile, Profile, number_in_words
from models.sources.source import Source, WholeFeature, refused
from models.sources.strangers import HEAD_BYTES, refuse_other_formats
from models.sources.tallies import ColumnTally, Moments

MAX_HASHED_ROWS = 5_000_000
"""Rows among which equal ones are looked for: 40 MB of hashes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Which kind each column is read as, and the target with whether its values are labels. `image_size` is the height
    and width that images of several sizes are resized to."""

    kinds: Mapping[str, FeatureKind]
    target: str
    labelled: bool
    image_size: tuple[int, int] | None = None


def open_source(path: Path, *, expanded_limit_bytes: int = EXPANDED_LIMIT_BYTES) -> Source:
    """Opens a file by what is in it, whatever its name.

    Raises:
        UnreadableData: when it is no data set, saying what it should be.
    """
    if path.is_dir():
        return open_picture_folder(path, expanded_limit_bytes=expanded_limit_bytes)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return open_parquet(path, expanded_limit_bytes=expanded_limit_bytes)
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        opens = open_arrays if _holds_arrays(path) else open_pictures
        return opens(path, expanded_limit_bytes=expanded_limit_bytes)
    with path.open("rb") as file:
        refuse_other_formats(file.read(HEAD_BYTES))
    text = open_delimited(path)
    if path.stat().st_size * 2 > expanded_limit_bytes:
        raise refused(
            f"at most {expanded_limit_bytes // 2:,} bytes of text", f"{path.stat().st_size:,} bytes",
            "send it as Parquet, or raise VITRINE_DATASET_EXPANDED_LIMIT_BYTES",
        )  # fmt: skip
    encoding = "UTF-8 with a byte order mark" if text.byte_order_mark else "UTF-8"
    remarks = tuple(f"the column without a name is called {name!r}" for name in text.renamed)
    return Source(
        "csv", text.names, text.batches, parses_text=True, remarks=remarks,
        reading={"encoding": encoding, "delimiter": DELIMITERS[text.delimiter]},
    )  # fmt: skip


def _holds_arrays(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError):
        return False  # refused where it is opened
    return bool(names) and all(name.endswith(".npy") for name in names)


def profile_file(path: Path, *, expanded_limit_bytes: int = EXPANDED_LIMIT_BYTES) -> Profile:
    """Reads a file once, in batches, and says what is in it.

    Raises:
        UnreadableData: when it is no data set.
    """
    source = open_source(path, expanded_limit_bytes=expanded_limit_bytes)
    tallies = {
        name: ColumnTally(name, source.parses_text)
        for name in source.names
        if name not in source.unsupported and not (source.whole and name == source.whole.name)
    }
    hashes, rows = list[NDArray[np.uint64]](), 0
    for batch in source.batches():
        for name, tally in tallies.items():
            tally.add(batch.column(name))
        if rows < MAX_HASHED_ROWS:
            hashes.append(fast_hashes(batch))
        rows += batch.num_rows
    if rows == 0:
        raise refused("rows", "columns without a row")
    whole = _profile_of_whole(source.whole, hashes) if source.whole else {}
    profiles = {name: profile_of(tally) for name, tally in tallies.items()} | whole
    profiles |= {name: _unsupported(name, kind) for name, kind in source.unsupported.items()}
    reading = dict(source.reading)
    if source.parses_text:
        spellings = sum((tally.null_spellings for tally in tallies.values()), start=Counter[str]())
        reading["missing_spelled"] = dict(spellings.most_common())
        reading["decimal"] = sorted({column.decimal for column in profiles.values() if column.kind == "numeric"})
    digest, size = _content_of(path)
    joined = np.concatenate(hashes)
    return Profile(
        format=source.format,
        sha256=digest,
        bytes=size,
        rows=rows,
        columns=tuple(profiles[name] for name in source.names),
        duplicate_rows=len(joined) - len(np.unique(joined)),
        reading=reading,
        target=source.target,
        remarks=source.remarks,
    )


def _content_of(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file or a folder, and its bytes."""
    if path.is_dir():
        files = files_in(path)
        return content_digest(path, [file.name for file in files]), sum(file.bytes for file in files)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _profile_of_whole(whole: WholeFeature, hashes: list[NDArray[np.uint64]]) -> dict[str, ColumnProfile]:
    """The profile of images or series, every pixel of which is read; their hashes are added to those of the columns."""
    moments, missing, infinite, are_whole, found = Moments(), 0, 0, True, list[NDArray[np.uint64]]()
    for chunk in whole.chunks():
        finite = chunk[np.isfinite(chunk)]
        missing += int(np.isnan(chunk).sum())
        infinite += int(np.isinf(chunk).sum())
        are_whole = are_whole and bool(np.all(finite == np.floor(finite)))
        moments.add(finite.astype(np.float64))
        found.append(fast_hashes_of_arrays(chunk))
    joined = np.concatenate(found)
    if hashes:
        joined = joined + np.concatenate(hashes)[: len(joined)] * np.uint64(3)
    hashes[:] = [joined]
    deviation = (moments.squares / moments.count) ** 0.5 if moments.count else 0.0
    figures = {"min": moments.low, "max": moments.high, "mean": moments.mean, "deviation": deviation}
    return {
        whole.name: ColumnProfile(
            whole.name, whole.kind, whole.possible, missing=missing, infinite=infinite, shape=whole.shape,
            figures=figures if moments.count else {}, whole_numbers=are_whole,
        )
    }  # fmt: skip


def _unsupported(name: str, kind: str) -> ColumnProfile:
    return ColumnProfile(
        name, None, (), unfit=f"values of the type {kind}",
        cure=f'{{"{name}": "ignore"}}, or columns of numbers, truth values, dates or strings in its place',
    )  # fmt: skip


def read_raw(
    path: Path, profile: Profile, reading: Reading, *, expanded_limit_bytes: int = EXPANDED_LIMIT_BYTES
) -> RawData:
    """Reads a file into columns by kind. Rows without a target are left out.

    Args:
        profile: what `profile_file` has found in the same file.
        reading: the kind of each column that is wanted; others are not read.

    Raises:
        UnreadableData: when it is no longer what it was.
    """
    source = open_source(path, expanded_limit_bytes=expanded_limit_bytes)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (*reading.kinds, reading.target)}
    whole = source.whole
    parts.pop(whole.name if whole else "", None)
    contents: list[bytes] = []
    for batch in source.batches():
        contents += row_contents(batch, parses_text=source.parses_text)
        for name, found in parts.items():
            array = batch.column(name)
            if source.parses_text:
                array = strings_of(array)
            if name == reading.target:
                found.append(_target_values(array, profile.column(name), labelled=reading.labelled))
            else:
                column = profile.column(name)
                kind = reading.kinds[name]
                found.append(values_of(array, kind, decimal=column.decimal, date_form=column.date_form))
    columns = {name: np.concatenate(found) for name, found in parts.items()}
    if whole is not None:
        rows, of_rows = _read_whole(whole, reading)
        columns = {whole.name: rows, **columns}
        contents = [content + of_row for content, of_row in zip(contents, of_rows, strict=True)]
    raw = {
        name: RawColumn(
            _kind_of(name, reading),
            _shaped(columns[name], _kind_of(name, reading)),
            scale_of(profile, name) if _kind_of(name, reading) == "image" else None,
        )
        for name in (*reading.kinds, reading.target)
    }
    kept = ~raw[reading.target].missing
    if not kept.all():
        raw = {name: replace(column, values=column.values[kept]) for name, column in raw.items()}
        contents = [content for content, keep in zip(contents, kept, strict=True) if keep]
    return RawData(raw, len(contents), profile.sha256, tuple(sha256_of(content) for content in contents))


def _read_whole(whole: WholeFeature, reading: Reading) -> tuple[NDArray[np.float32], list[bytes]]:
    """All rows `(n_rows, *shape)`, at the size that is asked for where they are of several, and the content of each as
    it is in the file."""
    wanted = whole.name in reading.kinds
    height, width, *others = whole.shape
    if wanted and 0 in whole.shape:
        if reading.image_size is None:
            raise refused("a size that images of several sizes are read at", "none")
        height, width = reading.image_size
    rows = np.empty((whole.n_rows if wanted else 0, height, width, *others), dtype=np.float32)
    contents: list[bytes] = []
    for chunk in whole.chunks():
        if wanted:
            place = slice(len(contents), len(contents) + len(chunk))
            rows[place] = chunk if chunk.shape[1:] == rows.shape[1:] else resized_pixels(chunk[0], (height, width))
        contents += [row.tobytes() for row in chunk]
    return rows, contents


def scale_of(profile: Profile, name: str) -> tuple[float, float]:
    """What the pixels of an image may be: 0 to 255 in pictures, and in arrays 0 to 1 or 0 to 255 where they are within,
    else what they are."""
    if profile.format == "images":
        return 0.0, 255.0
    column = profile.column(name)
    low, high = column.figures["min"], column.figures["max"]
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (0.0, 255.0) if column.whole_numbers and low >= 0 and 128 <= high <= 255 else (low, high)


def _kind_of(name: str, reading: Reading) -> FeatureKind:
    if name != reading.target:
        return reading.kinds[name]
    return "categorical" if reading.labelled else "numeric"


def _shaped(values: NDArray[Any], kind: FeatureKind) -> NDArray[Any]:
    return values[..., np.newaxis] if kind == "image" and values.ndim == 3 else values


def _target_values(array: Any, column: ColumnProfile, *, labelled: bool) -> NDArray[Any]:
    if not labelled:
        return values_of(array, "numeric", decimal=column.decimal)
    if column.kind == "numeric":
        # 1 and 1.0 are one label, however a file writes them.
        numbers = values_of(array, "numeric", decimal=column.decimal)
        return np.array([None if np.isnan(value) else number_in_words(value) for value in numbers], dtype=object)
    words = values_of(array, "categorical")
    if column.kind == "boolean":
        return np.array([None if word is None else word.lower() for word in words], dtype=object)
    return words
