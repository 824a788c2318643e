"""Engines: what turns rows into outputs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from models.inference import keras_outputs, open_session
from models.outputs import target_columns
from models.rows import ModelInput
from models.signature import Signature

SLICE_ROWS = 4096
"""Rows per call when many are evaluated: one ONNX Runtime call on 100,000 rows is 1.6 times slower than such slices."""
LARGE_CALL_ROWS = 256
_TRIES, _TRYING_MS = 20, 5.0
"""How often a call is measured at most, and after how long no more."""

WARM_SIZES = (8, 32, 256, SLICE_ROWS)
"""Rows of the calls by which an engine is warmed, after single ones."""
WARM_UP_MS = 1000.0
"""What such a call may be expected to take: 4,096 images of 224 x 224 would take minutes, and gigabytes."""


class Engine(Protocol):
    """Maps rows `(n_rows, *input_shape)` to `(n_rows, n_targets)` of one output."""

    name: str

    def evaluate(self, rows: ModelInput, output: str) -> np.ndarray: ...


class OnnxEngine:
    """ONNX Runtime on the CPU.

    Args:
        threads: for one call. One is best for small networks under load; more for large slices.
        keep_memory: whether memory that a large call took is kept for the next one. ONNX Runtime would keep 70 MiB for
            slices of 4,096 digits; giving it back makes such a call about a fifth slower.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, signature: Signature, *, threads: int, keep_memory: bool) -> None:
        import onnxruntime

        self._session = open_session(path.read_bytes(), threads=threads)
        self._large_call = onnxruntime.RunOptions()
        if not keep_memory:
            self._large_call.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._input = self._session.get_inputs()[0].name
        self._signature = signature

    def evaluate(self, rows: ModelInput, output: str) -> np.ndarray:
        name = "logit" if output == "logit" else "output"
        options = self._large_call if len(rows) > LARGE_CALL_ROWS else None
        return target_columns(self._session.run([name], {self._input: rows}, options)[0], self._signature, output)


class KerasEngine:
    """The Keras model itself, for versions whose ONNX export does not agree. Only in the compute process."""

    name = "tensorflow"

    def __init__(self, model: Any, signature: Signature) -> None:
        self._calls = keras_outputs(model, signature)

    def evaluate(self, rows: ModelInput, output: str) -> np.ndarray:
        return self._calls[output](rows)


def load_library() -> None:
    """Imports ONNX Runtime: the 7 MiB that it takes itself are no version's."""
    import onnxruntime  # noqa: F401


@dataclass(frozen=True, slots=True)
class Warmth:
    """What calls of a warm engine took: `single_ms` of one row, `many_ms` of `n_rows`."""

    single_ms: float
    many_ms: float
    n_rows: int

    @property
    def row_ms(self) -> float:
        """Of a row among many."""
        return self.many_ms / self.n_rows


def warm_up(engine: Engine, signature: Signature) -> Warmth:
    """Runs the sizes in use: one row, as many as requests that wait are joined into one call, and a slice of an
    explanation; of a dear network as many as a call of `WARM_UP_MS` takes."""
    output = signature.outputs[0]
    row = np.zeros((1, *signature.input_shape), np.float32)
    for each in signature.outputs:
        engine.evaluate(row, each)
    single_ms = least_ms(lambda: engine.evaluate(row, output))
    # The first call may have met a busy machine: what many rows take is not known before they are called.
    n_rows, many_ms = 1, single_ms
    for size in WARM_SIZES:
        if many_ms / n_rows * size > WARM_UP_MS:
            break
        rows = np.zeros((size, *signature.input_shape), np.float32)
        engine.evaluate(rows, output)
        n_rows, many_ms = size, least_ms(lambda rows=rows: engine.evaluate(rows, output))
    return Warmth(single_ms, many_ms, n_rows)


def least_ms(call: Callable[[], object]) -> float:
    """Milliseconds of the fastest of some calls: the others waited for something else too."""
    least = spent = measured_ms(call)
    for _ in range(_TRIES):
        if spent > _TRYING_MS:
            break
        took = measured_ms(call)
        least, spent = min(least, took), spent + took
    return least


def measured_ms(call: Callable[[], object]) -> float:
    """Milliseconds that a call took, never 0."""
    started = perf_counter()
    call()
    return max((perf_counter() - started) * 1000, 1e-6)


@lru_cache(maxsize=1)
def instruction_set() -> str:
    """The widest vector instructions of this processor, by which float results can differ."""
    try:
        flags = set(next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line).split())
    except (OSError, StopIteration):
        return os.uname().machine
    return next(
        (name for flag, name in (("avx512f", "avx512"), ("avx2", "avx2"), ("avx", "avx")) if flag in flags), "sse"
    )
