"""Hashes of rows: fast ones that find rows that are equal, and SHA-256 ones that decide about parts."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.sources.arrow import compute as pc
from models.sources.cells import strings_of

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MISSING = np.uint64(0xD6E8FEB86659FD93)


def fast_hashes(batch: Any) -> NDArray[np.uint64]:
    """A 64-bit hash of each row of a record batch: equal for equal rows, and hardly ever for others."""
    hashes = np.zeros(batch.num_rows, dtype=np.uint64)
    for column in batch.columns:
        hashes = _mixed(hashes * _MULTIPLIER + _column_hashes(column))
    return hashes


def fast_hashes_of_arrays(rows: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The same for rows that are arrays, `(n_rows, ...)`."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint32).astype(np.uint64)
    powers = np.cumprod(np.full(flat.shape[1], _MULTIPLIER))
    return _mixed((flat * powers).sum(axis=1, dtype=np.uint64))


def _column_hashes(array: Any) -> NDArray[np.uint64]:
    missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    if pa.types.is_string(array.type):
        hashes = _string_hashes(array)
    elif pa.types.is_boolean(array.type):
        hashes = array.cast(pa.int8()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64)
    elif pa.types.is_temporal(array.type):
        hashes = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64)
    else:
        floats = array.cast(pa.float64(), safe=False).fill_null(0.0).to_numpy(zero_copy_only=False)
        hashes = np.ascontiguousarray(floats + 0.0).view(np.uint64)
    return np.where(missing, _MISSING, _mixed(hashes))


def _string_hashes(array: Any) -> NDArray[np.uint64]:
    """A polynomial over the bytes of each string, all strings at once."""
    array = pc.fill_null(array, "")
    lengths = np.asarray(pc.binary_length(array).to_numpy(zero_copy_only=False), dtype=np.int64)
    joined = b"".join(array.cast(pa.binary()).to_pylist())
    if not joined:
        return np.zeros(len(array), dtype=np.uint64)
    starts = np.cumsum(lengths) - lengths
    places = np.arange(len(joined)) - np.repeat(starts, lengths)
    powers = np.cumprod(np.full(int(lengths.max()), _MULTIPLIER))
    terms = (np.frombuffer(joined, dtype=np.uint8).astype(np.uint64) + np.uint64(1)) * powers[places]
    sums = np.concatenate([[np.uint64(0)], np.cumsum(terms, dtype=np.uint64)])
    return sums[starts + lengths] - sums[starts]


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def row_contents(batch: Any, *, parses_text: bool) -> list[bytes]:
    """The content of each row in bytes, from which its SHA-256 is made: columns sorted by name, cells as they are
    written, the missing ones alike however they are spelled."""
    cells = []
    for name in sorted(batch.schema.names):
        column = batch.column(name)
        if pa.types.is_string(column.type):
            texts = (strings_of(column) if parses_text else column).to_pylist()
            cells.append([b"\0" if text is None else text.encode() for text in texts])
        elif pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
            cells.append([b"\0" if text is None else text.encode() for text in column.cast(pa.string()).to_pylist()])
        else:
            values = column.cast(pa.float64(), safe=False).to_pylist()
            cells.append([b"\0" if value is None or value != value else repr(value).encode() for value in values])
    return [b"\x1f".join(row) for row in zip(*cells, strict=True)]


def sha256_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
