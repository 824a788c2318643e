"""Gradients of a version's outputs by ONNX Runtime, from graphs that were made when it was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.inference import open_session
from models.outputs import target_columns
from models.rows import ModelInput
from models.signature import Signature

SLICE_UNITS = 2**21
"""Values of all operations of the network together in one call: 256 images of 8 x 8 through the demo's network."""
LARGEST_SLICE = 1024
FEWEST_ROWS = 8
"""Rows in a call for many targets at least. With a few hundred in all, what is computed stays in the processor's
caches: 10 targets took 50 microseconds a gradient in calls of 16 rows, and 140 in calls of 200."""


def fitting_slice_rows(row_units: int) -> int:
    """Rows of a call for a network whose operations give so many numbers for a row: a power of two, at least 8."""
    fitting = int(np.clip(SLICE_UNITS // max(row_units, 1), FEWEST_ROWS, LARGEST_SLICE))
    return 1 << (fitting.bit_length() - 1)


class OnnxGradient:
    """The gradient of one output of a version.

    Args:
        graph: what `differentiate` made of the output's network.
        output: as the signature names it.
        slice_rows: the most rows of a call.
        fills: whether calls are filled up to a fixed number of rows: for a network where a row's slopes depend, in
            the last bits, on how many rows the call has.
        threads: for one call.
        keep_memory: whether what a call took is kept for the next one.
    """

    name = "onnxruntime"

    def __init__(
        self,
        graph: bytes | Path,
        signature: Signature,
        output: str,
        *,
        slice_rows: int,
        fills: bool,
        threads: int,
    ) -> None:
        self._session = open_session(graph if isinstance(graph, bytes) else graph.read_bytes(), threads=threads)
        self._rows = self._session.get_inputs()[0].name
        self.slice_rows, self._fills = slice_rows, fills
        self.targets_together = len(signature.targets)
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
        at_once = max(self.slice_rows // len(cotangents), min(FEWEST_ROWS, self.slice_rows))
        parts = [
            self._slopes(rows[start : start + at_once], cotangents[:, start : start + at_once], at_once)
            for start in range(0, len(rows), at_once)
        ]
        slopes = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return slopes[0] if targets.ndim == 1 else np.moveaxis(slopes, 0, 1)

    def _slopes(self, rows: ModelInput, cotangents: NDArray[np.float32], at_once: int) -> NDArray[np.float32]:
        n_rows = len(rows)
        if self._fills and n_rows < at_once:
            filling = at_once - n_rows
            rows = np.concatenate([rows, np.repeat(rows[:1], filling, axis=0)])
            cotangents = np.concatenate([cotangents, np.repeat(cotangents[:, :1], filling, axis=1)], axis=1)
        found: Any = self._session.run(["slopes"], {self._rows: rows, "cotangents": cotangents})[0]
        return found[:, :n_rows]
