"""How networks are run, wherever they are: ONNX Runtime sessions, and Keras in batches of a few fixed sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models.outputs import target_columns, target_model
from models.rows import ModelInput
from models.signature import Signature

BATCH_SIZES = (1, 8, 64, 512)
"""Rows of a Keras call. Few, so that each is compiled and warm before the first request; the rest is padding."""

_BATCH_ELEMENTS = 8 * 2**20
"""Elements in the largest call: 32 MiB of input."""


def open_session(model: bytes, *, threads: int) -> Any:
    """An ONNX Runtime session on the CPU, with the options that versions are served and checked with.

    Args:
        threads: for one call. One is best for small networks under load; more for large slices.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread pool would take the cores from the requests beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def fitting_rows(row_elements: int) -> int:
    """As many rows of so many elements as a call should have: what a network makes of them takes memory, too."""
    return max(_BATCH_ELEMENTS // max(row_elements, 1), 1)


def batch_sizes(row_elements: int, sizes: tuple[int, ...] = BATCH_SIZES) -> tuple[int, ...]:
    """Those of some sizes that suit rows of so many elements: large rows need no large batches."""
    return tuple(size for size in sizes if size <= fitting_rows(row_elements))


class FixedBatches:
    """Calls a compiled function with batches of a few fixed sizes.

    Rows are cut into batches of the largest size; the last one is filled up, with copies of its last row, to the
    smallest size that holds it. How many rows a call has thus decides the size, and never their values.

    Args:
        call: maps `(size, *row_shape)` to an array `(size, n_outputs)`.
    """

    def __init__(self, call: Callable[[ModelInput], np.ndarray], row_shape: tuple[int, ...]) -> None:
        self._call = call
        self.sizes = batch_sizes(int(np.prod(row_shape)))
        for size in self.sizes:
            call(np.zeros((size, *row_shape), np.float32))

    def __call__(self, rows: ModelInput) -> np.ndarray:
        """`(n_rows, *row_shape)` to `(n_rows, n_outputs)`."""
        parts = []
        for start in range(0, len(rows), self.sizes[-1]):
            batch = rows[start : start + self.sizes[-1]]
            size = next(size for size in self.sizes if size >= len(batch))
            filling = np.broadcast_to(batch[-1], (size - len(batch), *batch.shape[1:]))
            parts.append(self._call(np.concatenate([batch, filling]))[: len(batch)])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


def keras_outputs(model: Any, signature: Signature) -> dict[str, FixedBatches]:
    """Each output of a Keras model, compiled and warm: `(n_rows, *input_shape)` to `(n_rows, n_targets)`."""
    import tensorflow as tf

    spec = tf.TensorSpec((None, *signature.input_shape), tf.float32)
    calls = {}
    for output in signature.outputs:
        network = target_model(model, signature, output)
        function = tf.function(
            lambda rows, network=network: network(rows, training=False), input_signature=[spec], autograph=False
        ).get_concrete_function()
        calls[output] = FixedBatches(
            lambda rows, function=function: function(tf.constant(rows)).numpy(), signature.input_shape
        )
    return calls


def session_outputs(session: Any, signature: Signature) -> dict[str, Callable[[ModelInput], np.ndarray]]:
    """Each output of an ONNX Runtime session, `(n_rows, *input_shape)` to `(n_rows, n_targets)`."""
    name = session.get_inputs()[0].name

    def call(rows: ModelInput, output: str) -> np.ndarray:
        units = session.run(["logit" if output == "logit" else "output"], {name: rows})[0]
        return target_columns(units, signature, output)

    return {output: lambda rows, output=output: call(rows, output) for output in signature.outputs}
