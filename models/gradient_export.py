"""Differentiates a version's ONNX export, and keeps the gradient when it says what Keras says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import artifact
from models.errors import NotDifferentiableHere
from models.invariance import BatchInvariance, measure_invariance
from models.onnx_gradient import OnnxGradient, fitting_call_rows
from models.outputs import target_model
from models.rows import ModelInput
from models.signature import Signature

TOLERANCE = 1e-4
"""The largest difference of a row's slopes between the engines, as a part of the usual length of a row's slopes."""
ROWS_COMPARED = 256
AT_KINKS = 0.05
"""The part of the rows that may lie at a kink. More of them, and the engines disagree about the slope there."""
TARGETS_COMPARED = 10

NUDGES, NUDGE = 4, 1e-6
"""Rows beside a row, and how far away each of their elements lies, as a part of its size."""


@dataclass(frozen=True, slots=True)
class GradientReport:
    """Which engine takes the gradients of a version, and why.

    Attributes:
        call_rows, slice_rows: the most rows of one call, and of the calls that are made together; None where
            TensorFlow takes the gradients.
        max_difference: per output, the largest difference of a row's slopes from Keras's, as a part of the usual
            length (the root mean square over the rows); None where one engine gave a number and the other did not.
        rows_at_kinks: per output, rows that were not counted since Keras's own slopes jump beside them.
        batch_invariance: of the slopes; None where TensorFlow takes them.
    """

    engine: str
    max_difference: dict[str, float | None]
    rows_compared: int
    rows_at_kinks: dict[str, int]
    call_rows: int | None = None
    slice_rows: int | None = None
    batch_invariance: BatchInvariance | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def open_gradient(version: artifact.Artifact, output: str, *, threads: int) -> OnnxGradient | None:
    """The exported gradient of an output of a version, where it has one, as it is served."""
    path = version.gradient_path(output)
    if path is None:
        return None
    return exported_gradient(path, version.signature, output, version.card["gradient"], threads=threads)


def exported_gradient(
    path: Path, signature: Signature, output: str, report: Mapping[str, Any], *, threads: int
) -> OnnxGradient:
    """The gradient of an output as it is served.

    Args:
        report: a `GradientReport` as JSON.
    """
    return OnnxGradient(
        path.read_bytes(),
        signature,
        output,
        call_rows=report["call_rows"],
        fills=report["batch_invariance"]["max_difference"][output] > 0,
        threads=threads,
    )


def export_gradients(
    model: Any, signature: Signature, directory: Path, rows: ModelInput, *, background: ModelInput
) -> GradientReport:
    """Writes a graph of each output's gradient beside the ONNX export in `directory`, or none of them.

    Args:
        model: the Keras model in raw units.
        rows: background, validation and hybrid rows; some of them are compared.
        background: whose spread says how near a neighbouring row is.
    """
    network = directory / artifact.ONNX
    if not network.exists():
        return _left_to_tensorflow("there is no ONNX export")
    from models.differentiation.reverse import differentiate, row_units

    try:
        graphs = {
            output: differentiate(network.read_bytes(), "logit" if output == "logit" else "output")
            for output in signature.outputs
        }
        call_rows = fitting_call_rows(row_units(network.read_bytes()))
    except NotDifferentiableHere as refusal:
        return _left_to_tensorflow(refusal.reason)
    gradients = {
        output: OnnxGradient(graph, signature, output, call_rows=call_rows, fills=False, threads=1)
        for output, graph in graphs.items()
    }
    slice_rows = gradients[signature.outputs[0]].slice_rows
    chosen = rows[np.linspace(0, len(rows) - 1, min(ROWS_COMPARED, len(rows)), dtype=int)]
    differences: dict[str, float | None] = {}
    kinks: dict[str, int] = {}
    for output, gradient in gradients.items():
        found = compare_slopes(gradient, target_model(model, signature, output), chosen, background)
        differences[output], kinks[output] = found
    if not all(difference is not None and difference <= TOLERANCE for difference in differences.values()):
        reason = f"the gradient differs from Keras's by more than {TOLERANCE:g} of its usual length"
        return GradientReport("tensorflow", differences, len(chosen), kinks, reason=reason)
    calls = {output: _flat_slopes(gradient) for output, gradient in gradients.items()}
    invariance = measure_invariance({1: calls}, chosen, largest_call=slice_rows)
    for output, graph in graphs.items():
        (directory / artifact.GRADIENT.format(output=output)).write_bytes(graph)
    return GradientReport("onnxruntime", differences, len(chosen), kinks, call_rows, slice_rows, invariance)


def _left_to_tensorflow(reason: str) -> GradientReport:
    return GradientReport("tensorflow", {}, 0, {}, reason=reason)


def _flat_slopes(gradient: OnnxGradient) -> Any:
    """The slopes of the first target, `(n_rows, n_elements)`."""
    return lambda rows: gradient(rows, np.zeros(len(rows), np.int32)).reshape(len(rows), -1)


def compare_slopes(
    gradient: OnnxGradient, network: Any, rows: ModelInput, background: ModelInput
) -> tuple[float | None, int]:
    """The largest difference between a row's slopes and Keras's, and how many rows lie at a kink.

    A row at a kink is one whose slopes differ, but where Keras's own differ as much in a row a rounding away: a ReLU
    at 0, two largest elements in a window.

    Args:
        network: the Keras model `(n_rows, *row_shape)` to `(n_rows, n_targets)`.
    """
    n_targets = network.outputs[0].shape[-1]
    targets = np.linspace(0, n_targets - 1, min(n_targets, TARGETS_COMPARED), dtype=np.int32)
    expected = keras_slopes(network, rows, targets)
    found = np.concatenate(
        [
            gradient(rows[start : start + gradient.slice_rows], np.tile(targets, (stop - start, 1)))
            for start in range(0, len(rows), gradient.slice_rows)
            for stop in [min(start + gradient.slice_rows, len(rows))]
        ]
    ).reshape(expected.shape)
    usual = np.sqrt((expected.astype(np.float64) ** 2).sum(axis=2).mean(axis=0))
    differences = _parts(found, expected, usual)
    suspects = np.flatnonzero(differences > TOLERANCE)
    at_kinks = 0
    if 0 < len(suspects) <= AT_KINKS * len(rows):
        jumps = np.array([_jump(network, row, targets, usual, background) for row in rows[suspects]])
        are_kinks = jumps > TOLERANCE
        differences[suspects[are_kinks]] = 0.0
        at_kinks = int(are_kinks.sum())
    largest = float(differences.max(initial=0.0))
    return (largest if np.isfinite(largest) else None), at_kinks


def _parts(found: NDArray[Any], expected: NDArray[Any], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n_rows,)`: the length of the difference of a row's slopes as a part of the usual one, for the worst target."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gaps = found.astype(np.float64) - expected
        gaps[(found == expected) | (np.isnan(found) & np.isnan(expected))] = 0.0
        lengths = np.sqrt((gaps**2).sum(axis=2))
        parts = np.where(lengths == 0, 0.0, lengths / usual)
    return np.nan_to_num(parts, nan=np.inf).max(axis=1)


def _jump(
    network: Any, row: NDArray[np.float32], targets: NDArray[np.int32], usual: NDArray[np.float64], background: Any
) -> float:
    """How far apart Keras's slopes lie at a row and right beside it."""
    rng = np.random.default_rng(0)
    sizes = np.maximum(np.abs(row), background.std(axis=0))
    nudges = NUDGE * sizes * rng.choice([-1.0, 1.0], size=(NUDGES, *row.shape))
    beside = np.concatenate([row[np.newaxis], row + nudges]).astype(np.float32)
    slopes = keras_slopes(network, beside, targets)
    return float(_parts(slopes, np.broadcast_to(slopes[:1], slopes.shape), usual).max())


def keras_slopes(network: Any, rows: ModelInput, targets: NDArray[np.int32]) -> NDArray[np.float32]:
    """`(n_rows, n_targets, n_elements)`: Keras's gradient of some targets."""
    import tensorflow as tf

    found = []
    for start in range(0, len(rows), 128):
        part = tf.constant(rows[start : start + 128])
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(part)
            outputs = network(part, training=False)
            columns = [outputs[:, target] for target in targets.tolist()]
        slopes: list[Any] = [tape.gradient(column, part) for column in columns]
        # Where nothing leads from the input to a target, Keras gives none, and the slopes are 0.
        found.append(np.stack([np.zeros_like(part) if each is None else each.numpy() for each in slopes], axis=1))
    return np.concatenate(found).reshape(len(rows), len(targets), -1)
