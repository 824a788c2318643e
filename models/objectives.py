"""What a fit makes small, and by which steps: loss, targets as the loss takes them, weights of rows, optimizer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.signature import Signature
from models.spec.fitting import ClassWeights, ClipNormSpec, ClipValueSpec, FitSpec, Loss


def loss_of(loss: Loss, label_smoothing: float, signature: Signature) -> Any:
    """The loss of a network's outputs: probabilities, or standardized values (a Huber loss turns linear at one
    standard deviation)."""
    losses: Any = keras.losses
    match loss, signature.task, signature.n_network_outputs > 1:
        case (("auto" | "mse"), "regression", _):
            return losses.MeanSquaredError()
        case "mae", "regression", _:
            return losses.MeanAbsoluteError()
        case "huber", "regression", _:
            return losses.Huber()
        case _, _, False:
            return losses.BinaryCrossentropy(label_smoothing=label_smoothing)
        case _ if label_smoothing:
            return losses.CategoricalCrossentropy(label_smoothing=label_smoothing)
        case _:
            return losses.SparseCategoricalCrossentropy()


def targets_of(
    targets: NDArray[Any], signature: Signature, *, scale: tuple[float, float], label_smoothing: float
) -> NDArray[Any]:
    """Targets as the loss takes them: standardized values, class indices, or, to be smoothed, one column a label.

    Args:
        targets: `(n_rows,)`, values in the target's units or class indices.
        scale: mean and standard deviation of a regression's target.
    """
    if signature.task == "regression":
        return ((targets - scale[0]) / scale[1]).astype(np.float32)
    if label_smoothing and signature.n_network_outputs > 1:
        return np.eye(signature.n_network_outputs, dtype=np.float32)[targets]
    return targets


def row_weights(
    class_weight: ClassWeights | None, labels: NDArray[Any], signature: Signature
) -> tuple[NDArray[np.float32], ...]:
    """The weight of each row by its label `(n_rows,)`, or none.

    "balanced" gives every class the same total, as scikit-learn does.
    """
    if class_weight is None:
        return ()
    if isinstance(class_weight, dict):
        weights = np.array([class_weight[label] for label in signature.labels])
        return (weights[labels].astype(np.float32),)
    counts = np.bincount(labels, minlength=len(signature.labels))
    return ((len(labels) / (len(counts) * counts[labels])).astype(np.float32),)


def optimizer_of(training: FitSpec) -> keras.optimizers.Optimizer:
    """The optimizer of a specification that is filled in, at its first learning rate."""
    clip: dict[str, float] = {}
    match training.gradient_clip:
        case ClipNormSpec(limit=limit):
            clip = {"global_clipnorm": limit}
        case ClipValueSpec(limit=limit):
            clip = {"clipvalue": limit}
    keywords: dict[str, Any] = {"weight_decay": training.weight_decay or None, **clip}
    rate, momentum = training.learning_rate, training.momentum or 0.0
    optimizers: Any = keras.optimizers
    match training.optimizer:
        case "adam":
            return optimizers.Adam(rate, **keywords)
        case "adamw":
            return optimizers.AdamW(rate, **{**keywords, "weight_decay": training.weight_decay or 0.0})
        case "rmsprop":
            return optimizers.RMSprop(rate, momentum=momentum, **keywords)
        case "sgd":
            return optimizers.SGD(rate, momentum=momentum, **keywords)
