"""Work on many rows that lets other requests pass: in turns of a few rows, on the event loop.

A thread would do worse: it holds the interpreter for 5 ms at a time, a turn for less than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidRows
from models.rows import ModelInput, check_array, decode_rows
from models.signature import Signature
from service.formats.rows import EncodedRows

Inputs = Sequence[Any] | NDArray[Any] | EncodedRows
"""Rows of a request: a list of JSON values, an array, or a body in another form."""

TURN_VALUES = 4096
"""Values in a turn: about half a millisecond."""


async def plain_rows(rows: Inputs, signature: Signature) -> list[Any] | NDArray[Any]:
    """Rows of a request as JSON has them, or one array of numbers, whatever they came as.

    Raises:
        InvalidRows: where a body's form cannot hold what the signature wants, or an image cannot be read.
    """
    if isinstance(rows, np.ndarray):
        return rows
    if type(rows) is not list:
        return await asyncio.to_thread(cast(EncodedRows, rows).read_as, signature)
    if signature.image is not None and dict in map(type, rows):
        from service.formats.pictures import decoded_rows, encoded_in

        name = signature.image.name
        if any(encoded_in(row, name) is not None for row in rows):
            return await asyncio.to_thread(decoded_rows, rows, signature)
    return rows


async def decode_in_turns(rows: Inputs, signature: Signature) -> ModelInput:
    """`decode_rows`, or `check_array`, for rows of any number in any form.

    Raises:
        InvalidRows: with one fault for each value that does not fit.
    """
    if type(rows) is not list or (signature.image is not None and dict in map(type, rows)):
        rows = await plain_rows(rows, signature)
        if isinstance(rows, np.ndarray):
            return await asyncio.to_thread(check_array, rows, signature)
    size = max(1, TURN_VALUES // signature.row_values)
    if len(rows) <= size:
        return decode_rows(rows, signature)
    try:
        return np.concatenate(await _turns(lambda part: decode_rows(part, signature), rows, size))
    except InvalidRows:
        # All faults are named together, by their places among all rows; in a thread, for there may be many.
        return await asyncio.to_thread(decode_rows, rows, signature)


async def in_turns(work: Callable[[np.ndarray], list[Any]], outputs: np.ndarray) -> list[Any]:
    """What some work makes of each row of outputs `(n_rows, n_columns)`."""
    size = max(1, TURN_VALUES // outputs.shape[1])
    if len(outputs) <= size:
        return work(outputs)
    return [item for part in await _turns(work, outputs, size) for item in part]


async def _turns(work: Callable[[Any], Any], rows: Any, size: int) -> list[Any]:
    parts = []
    for start in range(0, len(rows), size):
        parts.append(work(rows[start : start + size]))
        await asyncio.sleep(0)
    return parts
