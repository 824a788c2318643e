"""Fits a network to a data set: from a specification to a Keras model in raw units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from models.architectures import cnn, mlp
from models.datasets import Dataset, Split
from models.errors import InvalidDataset
from models.preprocessing import in_target_units, scaled_input, target_scale
from models.signature import Signature
from models.spec import TrainingSpec


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Where a fit stands after an epoch. `metrics` holds finite numbers only."""

    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds_left: float


@dataclass(frozen=True, slots=True)
class FittedModel:
    """`model` takes raw units and gives raw units: `(n_rows, *input_shape)` to `(n_rows, n_network_outputs)`."""

    model: keras.Model
    history: dict[str, list[float]]
    best_epoch: int


def fit(
    spec: TrainingSpec, dataset: Dataset, split: Split, *, report: Callable[[EpochReport], None] = lambda _: None
) -> FittedModel:
    """Trains on the train part, stops early on the validation part and keeps the best epoch's weights.

    Seeds Python, NumPy and Keras, and asks TensorFlow for deterministic kernels: the same specification and data
    give the same weights on one machine.

    Raises:
        InvalidDataset: when a part is empty, or the loss is not a number.
    """
    for part in ("train", "validation", "test"):
        if len(getattr(split, part)) == 0:
            raise InvalidDataset(f"The {part} part has no rows: {len(dataset.targets)} rows are too few for the split.")
    keras.utils.set_random_seed(spec.training.seed)
    tf.config.experimental.enable_op_determinism()
    network, served = _build(spec, dataset, split)
    regression = dataset.signature.task == "regression"
    scale = target_scale(dataset.targets[split.train]) if regression else (0.0, 1.0)
    targets = ((dataset.targets - scale[0]) / scale[1]).astype(np.float32) if regression else dataset.targets
    network.compile(
        optimizer=_optimizer(spec),
        loss=_loss(dataset.signature),
        metrics=["mae"] if regression else ["accuracy"],
    )
    stopping = spec.training.early_stopping
    best = _BestWeights(patience=stopping.patience if stopping else None)
    progress = _Progress(spec.training.epochs, scale[1] if regression else None, report)
    network.fit(
        dataset.inputs[split.train],
        targets[split.train],
        validation_data=(dataset.inputs[split.validation], targets[split.validation]),
        epochs=spec.training.epochs,
        batch_size=spec.training.batch_size,
        class_weight=_class_weight(spec, dataset, split),
        callbacks=[best, progress],
        verbose=cast(Any, 0),
    )
    return FittedModel(served, progress.history, best.best_epoch)


def _build(spec: TrainingSpec, dataset: Dataset, split: Split) -> tuple[keras.Model, keras.Model]:
    """The network as it is trained and, on the same layers, as it is served.

    Layer names are part of the artifact's contract: `logit` is the last linear layer of a classification,
    `output` the layer whose values are served.
    """
    signature, architecture = dataset.signature, spec.architecture
    assert architecture is not None  # parse_spec fills it in
    regularization = spec.regularization
    inputs = keras.Input(signature.input_shape, name="image" if signature.image else "columns")
    scaled = scaled_input(inputs, signature, dataset.inputs[split.train], spec.preprocessing.scaling)
    layers = {"mlp": mlp.hidden_layers, "cnn": cnn.hidden_layers}[architecture.type]
    hidden = layers(
        scaled,
        architecture.layers,
        activation=architecture.activation,
        dropout=regularization.dropout,
        regularizer=keras.regularizers.L1L2(regularization.l1, regularization.l2),
    )
    linear = keras.layers.Dense(signature.n_network_outputs, name="logit")(hidden)
    if signature.task == "regression":
        mean, deviation = target_scale(dataset.targets[split.train])
        return keras.Model(inputs, linear), keras.Model(inputs, in_target_units(linear, mean, deviation))
    activation = "softmax" if signature.n_network_outputs > 1 else "sigmoid"
    model = keras.Model(inputs, keras.layers.Activation(activation, name="output")(linear))
    return model, model


def _optimizer(spec: TrainingSpec) -> keras.optimizers.Optimizer:
    rate = spec.training.learning_rate
    match spec.training.optimizer:
        case "adam":
            return keras.optimizers.Adam(rate)
        case "adamw":
            return keras.optimizers.AdamW(rate)
        case "rmsprop":
            return keras.optimizers.RMSprop(rate)
        case "sgd":
            return keras.optimizers.SGD(rate, momentum=0.9)


def _loss(signature: Signature) -> str:
    if signature.task == "regression":
        return "mean_squared_error"
    return "sparse_categorical_crossentropy" if signature.n_network_outputs > 1 else "binary_crossentropy"


def _class_weight(spec: TrainingSpec, dataset: Dataset, split: Split) -> dict[int, float] | None:
    """Weights that give every class the same total, as scikit-learn's "balanced" does."""
    if spec.training.class_weight != "balanced":
        return None
    counts = np.bincount(dataset.targets[split.train], minlength=len(dataset.signature.labels))
    return {label: len(split.train) / (len(counts) * count) for label, count in enumerate(counts) if count}


class _BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest validation loss, and stops after `patience` epochs without."""

    def __init__(self, patience: int | None) -> None:
        super().__init__()
        self._patience, self._best, self._weights = patience, math.inf, None
        self.best_epoch = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        network: Any = self.model
        loss = (logs or {})["val_loss"]
        if not math.isfinite(loss):
            raise InvalidDataset(
                f"The validation loss of epoch {epoch + 1} is {loss}: lower training.learning_rate, "
                "or look for extreme values in the data."
            )
        if loss < self._best:
            self._best, self.best_epoch, self._weights = loss, epoch + 1, network.get_weights()
        elif self._patience is not None and epoch + 1 - self.best_epoch >= self._patience:
            network.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - the name is Keras's
        if self._weights is not None:
            cast(Any, self.model).set_weights(self._weights)


class _Progress(keras.callbacks.Callback):
    """Reports each epoch; the mean absolute error of a regression is given in the target's units."""

    def __init__(self, epochs: int, deviation: float | None, report: Callable[[EpochReport], None]) -> None:
        super().__init__()
        self._epochs, self._deviation, self._report = epochs, deviation, report
        self._started = monotonic()
        self._compiled_at: float | None = None
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        if self._deviation is not None:
            metrics |= {name: metrics[name] * self._deviation for name in ("mae", "val_mae")}
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        now = monotonic()
        # The first epoch compiles the step: it says nothing about those that follow.
        since, done = (self._compiled_at, epoch) if self._compiled_at else (self._started, 1)
        self._compiled_at = self._compiled_at or now
        self._report(
            EpochReport(epoch + 1, self._epochs, metrics, round((self._epochs - epoch - 1) * (now - since) / done, 1))
        )


def predict_raw(model: Any, rows: np.ndarray) -> Any:
    """What the network gives for rows in raw units: an array, or a dict of them for named outputs."""
    slices = [model(rows[start : start + 1024], training=False) for start in range(0, len(rows), 1024)]
    return keras.tree.map_structure(lambda *parts: np.concatenate([np.asarray(part) for part in parts]), *slices)
