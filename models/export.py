"""Exports a Keras model to ONNX and checks that the export says the same."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.outputs import with_logit
from models.rows import ModelInput
from models.signature import Signature
from models.training import predict_raw

OPSET = 18
TOLERANCE = 1e-5
"""The largest difference between the engines that is accepted, as a part of each output's spread."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Which engine serves a version, and why. Differences are parts of each output's spread."""

    engine: str
    max_difference: dict[str, float]
    rows_compared: int
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def export_onnx(model: Any, signature: Signature, path: Path, rows: ModelInput) -> ExportReport:
    """Writes `path` when the ONNX export agrees with Keras on `rows`, and nothing otherwise.

    Args:
        model: the Keras model in raw units.
        rows: `(n_rows, *signature.input_shape)`: background, validation and hybrid rows.
    """
    served = with_logit(model, signature)
    try:
        proto = _convert(served, signature)
        session = _open(proto)
        names = [output.name for output in session.get_outputs()]
        exported = dict(zip(names, session.run(names, {session.get_inputs()[0].name: rows}), strict=True))
    except Exception as error:
        # tf2onnx and ONNX Runtime raise what they like for an operation they do not know. Whatever it was, the
        # version is served by TensorFlow, and the card says why.
        return ExportReport("tensorflow", {}, 0, f"the export failed: {type(error).__name__}: {str(error)[:300]}")
    expected = predict_raw(served, rows)
    differences = {name: _difference(exported[name], expected[name]) for name in expected}
    if not all(difference <= TOLERANCE for difference in differences.values()):
        reason = f"the export differs from Keras by more than {TOLERANCE:g} of an output's spread"
        return ExportReport("tensorflow", differences, len(rows), reason)
    path.write_bytes(proto)
    return ExportReport("onnxruntime", differences, len(rows))


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
            function = tf.function(graph, input_signature=spec)
            proto, _ = tf2onnx.convert.from_function(function, input_signature=spec, opset=OPSET)
        finally:
            for layer in adapted:
                layer.finalize_state()
    return proto.SerializeToString()


def _open(proto: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])


def _difference(exported: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of any column, as a part of that column's spread."""
    spread = np.maximum(expected.std(axis=0, dtype=np.float64), np.finfo(np.float32).tiny)
    return float((np.abs(exported.astype(np.float64) - expected) / spread).max())
