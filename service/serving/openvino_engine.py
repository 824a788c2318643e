"""OpenVINO as an engine: the extra `openvino`, for networks that it computes faster than ONNX Runtime."""

from __future__ import annotations

import importlib
import sys
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from models.inference import batch_sizes
from models.outputs import target_columns
from models.rows import ModelInput
from models.signature import Signature
from service.serving.engine_report import Precision

CALL_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Rows of its calls. Kernels are made for each number of rows when it is first met, which takes as long as many calls:
20 to 100 ms. So a few are made at load, and calls are filled up to the next."""

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def is_installed() -> bool:
    return find_spec("openvino") is not None


def _import_openvino() -> Any:
    """OpenVINO without the package by which it tells its makers of each import, over the network."""
    modules: dict[str, Any] = sys.modules
    # To import a name that stands for None fails as if it were not installed; OpenVINO then goes without.
    modules.setdefault("openvino_telemetry", None)
    return importlib.import_module("openvino")


class OpenVinoEngine:
    """OpenVINO on the CPU, on the ONNX export of a version.

    Without being told it would take bfloat16 wherever the processor has it, for which nobody has asked.

    Args:
        threads: for one call.
        lanes: calls that run beside each other.
    """

    name = "openvino"

    def __init__(self, path: Path, signature: Signature, *, threads: int, lanes: int, precision: Precision) -> None:
        core: Any = _import_openvino().Core()
        graph = core.read_model(path.read_bytes())
        hints = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "EXECUTION_MODE_HINT": "ACCURACY" if precision == "float32" else "PERFORMANCE",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinned threads would meet those of the processes beside on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        # One for each lane: several streams of one hand each call over to threads of theirs. For a row of digits that
        # took three times as long as the call.
        networks = [core.compile_model(graph, "CPU", hints) for _ in range(lanes)]
        self._network = networks[0]
        self._signature, self.threads = signature, threads
        # Where a processor does not have what was asked for, OpenVINO takes something else.
        taken = self._network.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision: Precision = "bfloat16" if taken == "bf16" else "float32"
        # A request holds the memory of a call.
        self._requests: deque[Any] = deque(network.create_infer_request() for network in networks)
        self.sizes = batch_sizes(int(np.prod(signature.input_shape)), CALL_SIZES)
        for request in self._requests:
            for size in self.sizes:
                _called(request, np.zeros((size, *signature.input_shape), np.float32), "output", self.sizes)

    def evaluate(self, rows: ModelInput, output: str) -> np.ndarray:
        name = "logit" if output == "logit" else "output"
        try:
            request = self._requests.pop()
        except IndexError:
            # More calls than lanes: this one waits for another to end.
            request = self._network.create_infer_request()
        try:
            starts = range(0, len(rows), self.sizes[-1])
            parts = [_called(request, rows[start : start + self.sizes[-1]], name, self.sizes) for start in starts]
        finally:
            self._requests.append(request)
        return target_columns(parts[0] if len(parts) == 1 else np.concatenate(parts), self._signature, output)


def _called(request: Any, rows: ModelInput, name: str, sizes: tuple[int, ...]) -> np.ndarray:
    """The units of at most the largest size's rows, in a call that is filled up with copies of the last one."""
    filling = next(size for size in sizes if size >= len(rows)) - len(rows)
    filled = np.concatenate([rows, np.repeat(rows[-1:], filling, axis=0)]) if filling else np.ascontiguousarray(rows)
    # Copied: the request's own memory is written over by its next call.
    return request.infer({0: filled}, share_inputs=True, share_outputs=True)[name][: len(rows)].copy()
