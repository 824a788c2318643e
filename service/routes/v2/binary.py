"""Tensors as raw bytes: little-endian, row-major, as the binary tensor extension of V2 lays them out.

A BYTES element is its length (uint32) and its bytes; a BOOL is one byte. Sizes are compared with what is there before
anything is allocated, and other types than BYTES are not copied.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTES, BOOL, BF16, FP16 = "BYTES", "BOOL", "BF16", "FP16"
STORED: dict[str, np.dtype[Any]] = {
    BOOL: np.dtype("u1"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    FP16: np.dtype("<f2"),
    BF16: np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""How an element of each datatype lies in memory. NumPy knows no BF16: its bits are the upper half of an FP32's."""
DATATYPES = (*STORED, BYTES)
_LENGTH = struct.Struct("<I")


class DoesNotFit(Exception):
    """Data that are not what was said of them. Whoever knows their place makes a `Fault` of it."""

    def __init__(self, expected: str, received: str, place: str = "data") -> None:
        super().__init__(f"expected {expected}, received {received}")
        self.expected, self.received, self.place = expected, received, place


def size_of(datatype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor of any datatype but BYTES."""
    return prod(shape) * STORED[datatype].itemsize


def decode(datatype: str, shape: Sequence[int], data: memoryview) -> NDArray[Any]:
    """The array of a tensor: numbers in a type of NumPy's (float32 for BF16), booleans, or strings as objects.

    Raises:
        DoesNotFit: when there are more or fewer bytes than the shape says, or they are no such values.
    """
    if datatype == BYTES:
        return _decode_strings(shape, data)
    expected = size_of(datatype, shape)
    if len(data) != expected:
        raise DoesNotFit(f"{expected} bytes for {datatype} of shape {list(shape)}", f"{len(data)} bytes")
    stored = np.frombuffer(data, STORED[datatype]).reshape(shape)
    if datatype == BF16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if datatype == BOOL:
        if stored.size and stored.max() > 1:
            raise DoesNotFit("bytes of 0 or 1", f"a byte of {stored.max()}")
        return stored.view(np.bool_)
    return stored


def _decode_strings(shape: Sequence[int], data: memoryview) -> NDArray[Any]:
    count, end = prod(shape), len(data)
    if _LENGTH.size * count > end:
        raise DoesNotFit(
            f"at least {_LENGTH.size * count} bytes, a length for each of {count} elements", f"{end} bytes"
        )
    values: NDArray[Any] = np.empty(count, dtype=object)
    offset = 0
    for i in range(count):
        if offset + _LENGTH.size > end:
            raise DoesNotFit(f"{count} elements", f"{end} bytes, which end before element {i}")
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        if length > end - offset:
            raise DoesNotFit(f"elements within the {end} bytes that are there", f"element {i} of {length} bytes")
        try:
            values[i] = str(data[offset : offset + length], "utf-8")
        except UnicodeDecodeError:
            raise DoesNotFit("text in UTF-8", f"other bytes in element {i}") from None
        offset += length
    if offset != end:
        raise DoesNotFit(f"{offset} bytes in {count} elements", f"{end} bytes")
    return values.reshape(shape)


def encode(datatype: str, array: NDArray[Any]) -> bytes:
    """The bytes of an array: numbers, booleans, or (BYTES) strings as objects."""
    if datatype == BYTES:
        encoded = [str(value).encode() for value in array.reshape(-1)]
        return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))
    if datatype == BF16:
        return _upper_halves(np.ascontiguousarray(array, "<f4")).tobytes()
    return np.ascontiguousarray(array, STORED[datatype]).tobytes()


def _upper_halves(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The BF16 nearest to each number, to even where two are; NaN stays one."""
    bits = array.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), np.uint32(0x7FC0), rounded).astype("<u2")
