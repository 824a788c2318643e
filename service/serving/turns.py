"""Work on many rows that lets other requests pass: in turns of a few rows, on the event loop.

A thread would do worse: it holds the interpreter for 5 ms at a time, a turn for less than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.errors import InvalidRows
from models.rows import ModelInput, decode_rows
from models.signature import Signature

TURN_VALUES = 4096
"""Values in a turn: about half a millisecond."""


async def decode_in_turns(rows: Sequence[Any], signature: Signature) -> ModelInput:
    """`decode_rows` for rows of any number.

    Raises:
        InvalidRows: with one fault for each value that does not fit.
    """
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
