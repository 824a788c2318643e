"""How predictions hold when inputs move a little: by noise, and by small steps against the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.figures import number
from models.outputs import target_columns
from models.rows import ModelInput
from models.signature import Signature

NOISE_ROWS = 1000
SLICE_ROWS = 64
MAX_SLICES = 4
SECONDS = 8.0
"""For all adversarial steps; where the network is dear, fewer rows are attacked."""
STEPS = 10
STEP_SIZES = (0.01, 0.02, 0.05, 0.1, 0.2)
NOISE_SIZES = (0.05, 0.1, 0.2, 0.5, 1.0)
IMAGE_NOISE_SIZES = (0.02, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Scale:
    """In what units inputs are moved.

    Attributes:
        size: broadcasts to a row: what a step of size 1 is. 0 for what is not a quantity, and is not moved.
        limits: values that moved rows are kept within; None for no limits.
    """

    size: NDArray[np.float32]
    limits: tuple[float, float] | None
    words: str

    @staticmethod
    def of(signature: Signature, rows: ModelInput) -> Scale:
        """By the train rows: each feature's standard deviation, or the value range of an image."""
        if signature.image is not None:
            low, high = signature.image.value_range
            return Scale(np.float32(high - low).reshape(1), (low, high), "parts of the image's value range")
        if signature.series is not None:
            spread = np.nanstd(rows.astype(np.float64), axis=(0, 1)).astype(np.float32)
            return Scale(spread, None, "parts of each channel's standard deviation")
        words = "parts of each numeric feature's standard deviation"
        kinds = [feature.kind for feature in signature.features for _ in range(feature.width)]
        size = np.zeros(len(kinds), np.float32)
        for column in (place for place, kind in enumerate(kinds) if kind == "numeric"):
            values = rows[:, column][np.isfinite(rows[:, column])].astype(np.float64)
            size[column] = values.std() if len(values) else 0.0
        return Scale(size, None, words)

    def kept(self, rows: NDArray[Any]) -> ModelInput:
        return (rows if self.limits is None else np.clip(rows, *self.limits)).astype(np.float32)


def robustness(
    model: Any,
    inputs: ModelInput,
    targets: NDArray[Any],
    signature: Signature,
    scale: Scale,
    predict: Callable[[ModelInput], Any],
    seed: int,
) -> dict[str, Any]:
    """Accuracy (of a regression the mean absolute error) under noise and adversarial steps of rising size.

    `noise` adds normal noise to every number. `fgsm` moves every number by the size in the direction that raises the
    loss of its row (Goodfellow et al. 2015); `pgd` goes the same way in ten steps of a quarter of the size, kept
    within it (Madry et al. 2018, without a random start).

    Args:
        model: the Keras model in raw units, with a layer `logit` for a classification.
        inputs, targets: test rows.
        predict: from rows to the units of the network.
    """
    metric = "accuracy" if signature.task == "classification" else "mae"
    if not scale.size.any():
        reason = "no feature is a quantity that could be moved a little"
        return {"metric": metric, "unit": scale.words, "noise": None, "attacks": None, "reason": reason}

    def score(rows: ModelInput, truth: NDArray[Any]) -> float | None:
        outputs = target_columns(predict(rows), signature, signature.outputs[0])
        if signature.task == "classification":
            return number((outputs.argmax(axis=1) == truth).mean())
        return number(np.abs(outputs[:, 0].astype(np.float64) - truth).mean())

    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(inputs))
    noisy = shuffled[:NOISE_ROWS]
    rows, truth = inputs[noisy], targets[noisy]
    draws = rng.standard_normal(rows.shape).astype(np.float32) * scale.size
    sizes = NOISE_SIZES if signature.image is None else IMAGE_NOISE_SIZES
    document: dict[str, Any] = {
        "metric": metric,
        "unit": scale.words,
        "noise": {
            "rows": len(rows),
            "unmoved": score(rows, truth),
            "curve": [
                {"size": size, metric: score(scale.kept(rows + np.float32(size) * draws), truth)} for size in sizes
            ],
        },
    }
    slope = _slope(model, signature)
    if slope is None:
        return document | {"attacks": None, "reason": "the network has no gradients with respect to its inputs"}
    attacked = shuffled[: SLICE_ROWS * _affordable_slices(slope, inputs, targets)]
    rows, truth = inputs[attacked], targets[attacked]
    first = _signs(slope, rows, truth)
    curves: dict[str, Any] = {"fgsm": [], "pgd": []}
    for size in STEP_SIZES:
        reach = (np.float32(size) * scale.size).astype(np.float32)
        curves["fgsm"].append({"size": size, metric: score(scale.kept(rows + reach * first), truth)})
        moved = rows
        for step in range(STEPS):
            signs = first if step == 0 else _signs(slope, moved, truth)
            moved = scale.kept(np.clip(moved + reach * np.float32(2.5 / STEPS) * signs, rows - reach, rows + reach))
        curves["pgd"].append({"size": size, metric: score(moved, truth)})
    return document | {"attacks": {"rows": len(rows), "unmoved": score(rows, truth), **curves}}


def _slope(model: Any, signature: Signature) -> Callable[[ModelInput, NDArray[Any]], NDArray[Any]] | None:
    """The gradient of each row's loss with respect to the row, for slices of `SLICE_ROWS`; None where there is none."""
    import keras
    import tensorflow as tf

    linear = model.get_layer("logit").output if signature.task == "classification" else model.output
    network = keras.Model(model.input, linear)

    def gradient(rows: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(rows)
            outputs = tf.cast(network(rows, training=False), tf.float32)
            if signature.task == "regression":
                losses = tf.square(outputs[:, 0] - truth)
            elif signature.n_network_outputs == 1:
                losses = tf.nn.sigmoid_cross_entropy_with_logits(truth, outputs[:, 0])
            else:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(truth, tf.int32), outputs)
        return tape.gradient(losses, rows)

    shape = (SLICE_ROWS, *signature.input_shape)
    rows = tf.TensorSpec(shape, tf.float32)
    if gradient(tf.zeros(shape), tf.zeros(SLICE_ROWS)) is None:
        return None
    known = tf.TensorSpec((SLICE_ROWS,), tf.float32)
    compiled = tf.function(gradient, input_signature=[rows, known], autograph=False)

    def slope(rows: ModelInput, truth: NDArray[Any]) -> NDArray[Any]:
        lacking = SLICE_ROWS - len(rows)
        padded = np.concatenate([rows, np.zeros((lacking, *rows.shape[1:]), np.float32)])
        known = np.concatenate([truth.astype(np.float32), np.zeros(lacking, np.float32)])
        return np.asarray(compiled(tf.constant(padded), tf.constant(known)))[: len(rows)]

    return slope


def _affordable_slices(slope: Callable[..., Any], inputs: ModelInput, targets: NDArray[Any]) -> int:
    slope(inputs[:SLICE_ROWS], targets[:SLICE_ROWS])  # the first call compiles
    started = perf_counter()
    slope(inputs[:SLICE_ROWS], targets[:SLICE_ROWS])
    seconds = (perf_counter() - started) * (1 + len(STEP_SIZES) * (STEPS - 1))
    return max(1, min(MAX_SLICES, int(SECONDS / seconds)))


def _signs(slope: Callable[..., Any], rows: ModelInput, truth: NDArray[Any]) -> NDArray[np.float32]:
    """Which way each number raises the loss; 0 where the slope is not a number, as beside a missing value."""
    parts = [
        slope(rows[start : start + SLICE_ROWS], truth[start : start + SLICE_ROWS])
        for start in range(0, len(rows), SLICE_ROWS)
    ]
    return np.sign(np.nan_to_num(np.concatenate(parts))).astype(np.float32)
