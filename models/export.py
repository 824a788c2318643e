"""Exports a Keras model to ONNX and checks that the export says the same."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.inference import keras_outputs, open_session, session_outputs
from models.invariance import BatchInvariance, measure_invariance
from models.outputs import with_logit
from models.rows import ModelInput
from models.signature import Signature
from models.training import predict_raw

OPSET = 18
TOLERANCE = 1e-5
"""The largest difference between the engines that is accepted, as a part of each output's spread."""

ROUNDING = 2
"""Units in the last place by which two float32 values may differ and still be called equal: where an output hardly
varies, its spread is smaller than what float32 can tell apart, and says nothing."""

CALL_ROWS = (1, 7, 256)
"""Rows a call, beside all at once, in which the export is compared: some operations round by the size of the batch."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Which engine serves a version, and why.

    Attributes:
        max_difference: per output of the network, the largest difference as a part of its spread; None where one
            engine gave a number and the other did not.
        batch_invariance: of the engine that serves.
    """

    engine: str
    max_difference: dict[str, float | None]
    rows_compared: int
    batch_invariance: BatchInvariance
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def export_onnx(
    model: Any, signature: Signature, path: Path, rows: ModelInput, *, background: ModelInput | None = None
) -> ExportReport:
    """Writes `path` when the ONNX export agrees with Keras on `rows`, and nothing otherwise.

    Args:
        model: the Keras model in raw units.
        rows: `(n_rows, *signature.input_shape)`: background, validation and hybrid rows.
        background: the rows over which the spread of an output is taken; default: `rows`.
    """
    served = with_logit(model, signature)
    try:
        proto = _convert(served, signature)
        session = open_session(proto, threads=1)
        names = [output.name for output in session.get_outputs()]
        exported = [
            dict(zip(names, session.run(names, {session.get_inputs()[0].name: part}), strict=True))
            for part in _calls(rows)
        ]
    except Exception as error:
        # tf2onnx and ONNX Runtime raise what they like for an operation they do not know. Whatever it was, the
        # version is served by TensorFlow, and the card says why.
        reason = f"the export failed: {type(error).__name__}: {str(error)[:300]}"
        return _served_by_tensorflow(model, signature, rows, {}, 0, reason)
    expected = predict_raw(served, rows)
    over = expected if background is None else predict_raw(served, background)
    differences = {
        name: max(largest_difference(part[name], expected[name][: len(part[name])], over[name]) for part in exported)
        for name in expected
    }
    found = {name: difference if np.isfinite(difference) else None for name, difference in differences.items()}
    if not all(difference <= TOLERANCE for difference in differences.values()):
        reason = f"the export differs from Keras by more than {TOLERANCE:g} of an output's spread"
        return _served_by_tensorflow(model, signature, rows, found, len(rows), reason)
    by_threads = {1: session, (os.cpu_count() or 1): open_session(proto, threads=os.cpu_count() or 1)}
    invariance = measure_invariance(
        {threads: session_outputs(opened, signature) for threads, opened in by_threads.items()}, rows
    )
    path.write_bytes(proto)
    return ExportReport("onnxruntime", found, len(rows), invariance)


def _served_by_tensorflow(
    model: Any, signature: Signature, rows: ModelInput, differences: dict[str, float | None], n_rows: int, reason: str
) -> ExportReport:
    invariance = measure_invariance({0: keras_outputs(model, signature)}, rows)
    return ExportReport("tensorflow", differences, n_rows, invariance, reason)


def _calls(rows: ModelInput) -> list[ModelInput]:
    """All rows in one call, and the first few in calls of other sizes."""
    return [rows, *(rows[:size] for size in CALL_ROWS if size < len(rows))]


def hybrid_rows(rows: ModelInput, background: ModelInput, n_rows: int, seed: int) -> ModelInput:
    """Rows as explanations make them: random elements of a row, the others from a background row."""
    rng = np.random.default_rng(seed)
    chosen = rows[rng.integers(len(rows), size=n_rows)]
    reference = background[rng.integers(len(background), size=n_rows)]
    return np.where(rng.random(chosen.shape) < rng.random((n_rows, *[1] * (chosen.ndim - 1))), chosen, reference)


def _convert(served: Any, signature: Signature) -> bytes:
    with warnings.catch_warnings():
        # tf2onnx still sets NumPy aliases that NumPy deprecates; nothing that a user can act on.
        warnings.simplefilter("ignore")
        import keras
        import tensorflow as tf
        import tf2onnx

        name = served.inputs[0].name
        spec = [tf.TensorSpec((None, *signature.input_shape), tf.float32, name=name)]
        adapted = [layer for layer in served.layers if isinstance(layer, keras.layers.Normalization)]

        def graph(rows: Any) -> Any:
            # An adapted Normalization layer holds its mean and variance as eager constants, which tf2onnx turns into
            # inputs of the graph. Read from the layer's variables inside the trace, they become constants in it.
            for layer in adapted:
                layer.finalize_state()
            return served(rows, training=False)

        try:
            function = tf.function(graph, input_signature=spec, autograph=False)
            proto, _ = tf2onnx.convert.from_function(
                function, input_signature=spec, opset=OPSET, custom_op_handlers={"Erfc": (_write_erfc, [])}
            )
        finally:
            for layer in adapted:
                layer.finalize_state()
    return proto.SerializeToString()


def _write_erfc(graph: Any, node: Any, name: str, _arguments: Any) -> Any:
    """erfc(x) as 1 - erf(x): ONNX has the second, Keras computes GELU by the first, tf2onnx knows only the second."""
    (values,) = node.input
    one = graph.make_const(f"{name}_one", np.ones((), np.float32))
    erf = graph.make_node("Erf", [values])
    shapes, types = node.output_shapes, node.output_dtypes
    outputs = list(node.output)
    graph.remove_node(node.name)
    return graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, shapes=shapes, dtypes=types)


def largest_difference(exported: np.ndarray, expected: np.ndarray, over: np.ndarray) -> float:
    """The largest difference of any column, as a part of that column's spread.

    Args:
        exported, expected: `(n_rows, n_columns)`.
        over: `(n_background, n_columns)`, the values whose standard deviation is the spread.

    Returns:
        0 where all values are equal up to `ROUNDING` units in the last place, so that a constant output agrees;
        infinity where a value is a number in one and none in the other, or a constant output differs by more. Two NaN
        are equal, and two infinities of one sign: then the engines agree, whatever that says of the network.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        differences = np.abs(exported.astype(np.float64) - expected)
        differences[(exported == expected) | (np.isnan(exported) & np.isnan(expected))] = 0.0
        differences[np.isnan(differences)] = np.inf
        # Of float32, whatever these arrays hold: that is what the engines compute in.
        differences[differences <= ROUNDING * np.abs(np.spacing(expected.astype(np.float32)))] = 0.0
        spread = np.where(np.isfinite(over), over, np.nan).astype(np.float64)
        spread = np.nan_to_num(np.nanstd(spread, axis=0)) if np.isfinite(over).any() else np.zeros(over.shape[1])
        parts = np.where(differences == 0.0, 0.0, differences / spread)
    return float(parts.max(initial=0.0))
