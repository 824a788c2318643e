"""Gradients of a version's outputs by ONNX Runtime, from graphs that were made when it was exported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.inference import open_session
from models.outputs import target_columns
from models.rows import ModelInput
from models.signature import Signature

CALL_UNITS = 2**19
"""Values of all operations of the network together in one call: what stays in a core's caches. 32 images of 8 x 8
through the demo's network."""
CALLS_A_SLICE, LARGEST_SLICE = 8, 1024
FEWEST_ROWS = 8


def fitting_call_rows(row_units: int) -> int:
    """Rows of a call for a network whose operations give so many numbers for a row: a power of two, at least 8."""
    fitting = int(np.clip(CALL_UNITS // max(row_units, 1), FEWEST_ROWS, LARGEST_SLICE))
    return 1 << (fitting.bit_length() - 1)


class OnnxGradient:
    """The gradient of one output of a version.

    A slice is cut into calls by its number of rows and targets alone, and each call runs on one thread, so that slopes
    are the same bits however many there are. Calls beside each other take less time than one on all cores, whose
    threads wait for each other at every operation, for very long when others use the cores too.

    Args:
        graph: what `differentiate` made of the output's network.
        output: as the signature names it.
        call_rows: the most rows of a call; see `fitting_call_rows`.
        fills: whether calls are filled up to a fixed number of rows: for a network where a row's slopes depend, in
            the last bits, on how many rows the call has.
        threads: how many calls run at a time.
    """

    name = "onnxruntime"

    def __init__(
        self, graph: bytes, signature: Signature, output: str, *, call_rows: int, fills: bool, threads: int
    ) -> None:
        self._session = open_session(graph, threads=1)
        self._rows = self._session.get_inputs()[0].name
        self._call_rows, self._fills = call_rows, fills
        self.slice_rows = min(CALLS_A_SLICE * call_rows, LARGEST_SLICE)
        self.targets_together = len(signature.targets)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="slopes") if threads > 1 else None
        # What each unit of the network adds to each target: one or none, or with one sigmoid unit for two labels
        # less of the one for more of the other.
        units = np.eye(signature.n_network_outputs, dtype=np.float32)
        still = target_columns(0 * units[:1], signature, output)
        self._of_targets = np.ascontiguousarray((target_columns(units, signature, output) - still).T)

    def __call__(self, rows: ModelInput, targets: NDArray[np.int32]) -> NDArray[np.float32]:
        """`(n_rows, *row_shape)`, or with `(n_rows, n_targets)` targets `(n_rows, n_targets, *row_shape)`.

        Args:
            rows: at most `slice_rows`.
            targets: `(n_rows,)` or `(n_rows, n_targets)`.
        """
        cotangents = self._of_targets[targets.T if targets.ndim == 2 else targets[np.newaxis]]
        at_once = self._rows_of_calls(len(rows), len(cotangents))
        parts = [slice(start, start + at_once) for start in range(0, len(rows), at_once)]
        calls = [(rows[part], cotangents[:, part], at_once) for part in parts]
        if self._pool is None or len(calls) == 1:
            found = [self._slopes(*call) for call in calls]
        else:
            found = list(self._pool.map(lambda call: self._slopes(*call), calls))
        slopes = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        return slopes[0] if targets.ndim == 1 else np.moveaxis(slopes, 0, 1)

    def _rows_of_calls(self, n_rows: int, n_targets: int) -> int:
        """Rows of each call but the last: as many as fit, or where that is several calls, an even number of like ones.

        More targets, fewer rows: 10 targets took 50 microseconds a gradient in calls of 16 rows, and 140 with 200.
        """
        most = max(self._call_rows // n_targets, min(FEWEST_ROWS, self._call_rows))
        if self._fills or n_rows <= most:
            return most
        n_calls = 2 * -(-n_rows // (2 * most))
        return -(-n_rows // n_calls)

    def _slopes(self, rows: ModelInput, cotangents: NDArray[np.float32], at_once: int) -> NDArray[np.float32]:
        n_rows = len(rows)
        if self._fills and n_rows < at_once:
            filling = at_once - n_rows
            rows = np.concatenate([rows, np.repeat(rows[:1], filling, axis=0)])
            cotangents = np.concatenate([cotangents, np.repeat(cotangents[:, :1], filling, axis=1)], axis=1)
        found: Any = self._session.run(["slopes"], {self._rows: rows, "cotangents": cotangents})[0]
        return found[:, :n_rows]
