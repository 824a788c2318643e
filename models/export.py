"""Exports a Keras model to ONNX and checks that the export says the same."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.cores import usable_cores
from models.differences import TOLERANCE, largest_difference
from models.inference import fitting_rows, keras_outputs, open_session, session_outputs
from models.invariance import BatchInvariance, measure_invariance
from models.onnx_layers import exportable
from models.onnx_operations import HANDLERS
from models.outputs import with_logit
from models.public import told
from models.rows import ModelInput
from models.signature import Signature
from models.training import predict_raw

OPSET = 18
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
        converted = _convert(served, signature)
        if unknown := unknown_operations(converted.graph):
            reason = f"the export failed: ONNX has no {', '.join(unknown)}"
            return _served_by_tensorflow(model, signature, rows, {}, 0, reason)
        proto = converted.SerializeToString()
        session = open_session(proto, threads=1)
        names = [output.name for output in session.get_outputs()]
        exported = {
            part: dict(zip(names, session.run(names, {session.get_inputs()[0].name: rows[slice(*part)]}), strict=True))
            for part in _calls(rows)
        }
    except Exception as error:
        # tf2onnx and ONNX Runtime raise what they like for an operation they do not know. Whatever it was, the
        # version is served by TensorFlow, and the card says why.
        reason = f"the export failed: {told(error)[:300]}"
        return _served_by_tensorflow(model, signature, rows, {}, 0, reason)
    expected = predict_raw(served, rows)
    over = expected if background is None else predict_raw(served, background)
    differences = {
        name: max(
            largest_difference(values[name], expected[name][slice(*part)], over[name])
            for part, values in exported.items()
        )
        for name in expected
    }
    found = {name: difference if np.isfinite(difference) else None for name, difference in differences.items()}
    if not all(difference <= TOLERANCE for difference in differences.values()):
        reason = f"the export differs from Keras by more than {TOLERANCE:g} of an output's spread"
        return _served_by_tensorflow(model, signature, rows, found, len(rows), reason)
    by_threads = {1: session, usable_cores(): open_session(proto, threads=usable_cores())}
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


def _calls(rows: ModelInput) -> list[tuple[int, int]]:
    """Where calls begin and end: all rows in one, or of large rows as many as fit; the first few in smaller ones."""
    most = min(fitting_rows(int(np.prod(rows.shape[1:]))), len(rows))
    whole = [(start, min(start + most, len(rows))) for start in range(0, len(rows), most)]
    return [*whole, *((0, size) for size in CALL_ROWS if size < most)]


def unknown_operations(graph: Any) -> list[str]:
    """Operations in a graph, and in those within it, that ONNX does not define: tf2onnx leaves what it cannot write."""
    found = set()
    for node in graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            found.add(node.op_type)
        for attribute in node.attribute:
            found |= {name for inner in (attribute.g, *attribute.graphs) for name in unknown_operations(inner)}
    return sorted(found)


def _convert(served: Any, signature: Signature) -> Any:
    """The network as an ONNX model."""
    with warnings.catch_warnings():
        # tf2onnx still sets NumPy aliases that NumPy deprecates; nothing that a user can act on.
        warnings.simplefilter("ignore")
        import tensorflow as tf
        import tf2onnx

        name = served.inputs[0].name
        spec = [tf.TensorSpec((None, *signature.input_shape), tf.float32, name=name)]
        function = tf.function(lambda rows: served(rows, training=False), input_signature=spec, autograph=False)
        eagerly = tf.config.functions_run_eagerly()
        # Keras compiles some operations by themselves (grouped convolutions, say): functions in the graph, which ONNX
        # does not know. Run eagerly, what they do is in the graph itself.
        tf.config.run_functions_eagerly(True)
        try:
            with exportable(served):
                proto, _ = tf2onnx.convert.from_function(
                    function, input_signature=spec, opset=OPSET, custom_op_handlers=HANDLERS
                )
        finally:
            tf.config.run_functions_eagerly(eagerly)
    return proto
