"""`application/x-npy`: one array of numbers, rows along its first axis. No pickles."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.signature import Signature
from service.errors import NotReadable

MOST_AXES = 8
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

_UNREADABLE = (ValueError, TypeError, EOFError, SyntaxError, TokenError, RecursionError, MemoryError)
"""What comes of a damaged header: NumPy reads it as a literal of Python, up to 10,000 characters of it."""


@dataclass(frozen=True, slots=True)
class ArrayRows:
    """An array `(n_rows, ...)`."""

    array: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.array)

    def read_as(self, signature: Signature) -> NDArray[np.generic]:
        """The array; where rows have one channel, its axis may be left out."""
        array, shape = self.array, signature.input_shape
        if array.shape[1:] != shape and shape[-1] == 1 and array.shape[1:] == shape[:-1]:
            return array[..., np.newaxis]
        return array


def read_npy(body: bytes, max_rows: int) -> ArrayRows:  # noqa: ARG001 (rows are counted where all are)
    """A body as the array that it is, without a copy: a header that says more than there is costs nothing.

    Raises:
        NotReadable: for objects (pickles), and what is no whole array.
    """
    file = io.BytesIO(body)
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise NotReadable(f"NPY version {version[0]}.{version[1]} cannot be read: expected 1.0 or 2.0.")
        shape, is_fortran, dtype = _HEADERS[version](file)
    except _UNREADABLE:
        # What NumPy says of a header names its parser's objects.
        raise NotReadable("The body is no NPY array: its header cannot be read.") from None
    if dtype.hasobject or dtype.kind not in "biuf":
        raise NotReadable(f"An NPY array of numbers is expected. Received: {str(dtype)[:60]}.")
    expected, received = math.prod(shape) * dtype.itemsize, len(body) - file.tell()
    if expected != received:
        raise NotReadable(
            f"An NPY array of {dtype} and shape {shape} has {expected:,} bytes. Received: {received:,}."[:300]
        )
    # A header may say what no array has: an axis of any size beside one of none, negative sizes, hundreds of axes.
    if not 1 <= len(shape) <= MOST_AXES or not all(type(size) is int and size > 0 for size in shape):
        raise NotReadable(
            f"An NPY array with a row at least, values in it and at most {MOST_AXES} axes is expected. Received: "
            f"shape {shape}."[:300]
        )
    array = np.frombuffer(body, dtype, offset=file.tell())
    return ArrayRows(array.reshape(shape, order="F" if is_fortran else "C"))
