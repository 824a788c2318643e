"""Fits a network to a data set: from a specification to a Keras model in raw units."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from models.architectures import cnn, mlp
from models.artifact import KERAS, Artifact
from models.batches import n_batches, shuffled_batches
from models.checkpoint import Checkpoints, Identity, digest_of
from models.datasets import Dataset, Split
from models.epochs import EpochReport, Epochs
from models.errors import InvalidDataset
from models.preprocessing import in_target_units, scaled_input, target_scale
from models.signature import Signature
from models.spec import TrainingSpec
from models.warm_start import take_weights

_LIBRARIES = ("vitrine", "keras", "tensorflow", "numpy")
"""Those on which the bits of a fit depend."""


@dataclass(frozen=True, slots=True)
class FittedModel:
    """`model` takes raw units and gives raw units: `(n_rows, *input_shape)` to `(n_rows, n_network_outputs)`.

    `history` has for each epoch its metrics and its `learning_rate`. `seconds` counts every attempt. `warnings` are
    for a person to read.
    """

    model: keras.Model
    history: dict[str, list[float]]
    best_epoch: int
    seconds: float
    warnings: tuple[str, ...]


def fit(
    spec: TrainingSpec,
    dataset: Dataset,
    split: Split,
    *,
    report: Callable[[EpochReport], None] = lambda _: None,
    checkpoints: Path | None = None,
    fence: Callable[[], None] = lambda: None,
    earlier: Artifact | None = None,
) -> FittedModel:
    """Trains on the train part, stops early on the validation part and keeps the best epoch's weights.

    Seeds Python, NumPy and Keras, and asks TensorFlow for deterministic kernels: the same specification and data
    give the same weights on one machine, bit for bit, also when the process was killed and another resumed from its
    checkpoints.

    Args:
        report: told of each epoch, after its checkpoint; when resuming, of the checkpoint's epoch once more.
        checkpoints: a folder for this fit alone. It is the caller's to remove. None: nothing is stored.
        fence: called before a checkpoint is put in place; raises when this attempt has been overtaken by another.
        earlier: the version whose weights the fit begins with, where the specification says so.

    Raises:
        WarmStartImpossible: when that version has other layers.
        InvalidDataset: when a part is empty, or the train part has rows of one label only.
        LossNotFinite: when the loss is not a finite number.
    """
    _check_parts(dataset, split)
    keras.utils.set_random_seed(spec.training.seed)
    tf.config.experimental.enable_op_determinism()
    network, served = _build(spec, dataset, split)
    if earlier is not None and spec.from_version is not None:
        take_weights(network, earlier, spec.from_version)
    regression = dataset.signature.task == "regression"
    scale = target_scale(dataset.targets[split.train]) if regression else (0.0, 1.0)
    targets = ((dataset.targets - scale[0]) / scale[1]).astype(np.float32) if regression else dataset.targets
    network.compile(
        optimizer=_optimizer(spec),
        loss=_loss(dataset.signature),
        metrics=["mae"] if regression else ["accuracy"],
    )
    optimizer: Any = network.optimizer
    optimizer.build(network.trainable_variables)
    store = Checkpoints(checkpoints, _identity(spec, dataset, split, network, earlier), fence) if checkpoints else None
    epochs = Epochs(spec.training, {"mae": scale[1], "val_mae": scale[1]}, store, report)
    if store and (checkpoint := store.latest()):
        epochs.resume(checkpoint, network)
    if not epochs.finished:
        batch_size = spec.training.batch_size
        learned = (dataset.inputs[split.train], targets[split.train], *_row_weights(spec, dataset, split))
        network.fit(
            shuffled_batches(
                learned,
                batch_size=batch_size,
                seed=spec.training.seed,
                first_epoch=epochs.done,
                epochs=spec.training.epochs,
            ),
            steps_per_epoch=n_batches(len(split.train), batch_size),
            initial_epoch=epochs.done,
            epochs=spec.training.epochs,
            validation_data=(dataset.inputs[split.validation], targets[split.validation]),
            validation_batch_size=batch_size,
            shuffle=False,
            callbacks=[epochs],
            verbose=cast(Any, 0),
        )
    network.set_weights(epochs.best_weights)
    return FittedModel(served, epochs.history, epochs.best_epoch, epochs.timing.seconds, epochs.warnings)


def _check_parts(dataset: Dataset, split: Split) -> None:
    for part in ("train", "validation", "test"):
        if len(getattr(split, part)) == 0:
            raise InvalidDataset(f"The {part} part has no rows: {len(dataset.targets)} rows are too few for the split.")
    if dataset.signature.task == "classification" and len(held := np.unique(dataset.targets[split.train])) == 1:
        label = dataset.signature.labels[held[0]]
        raise InvalidDataset(
            f"All {len(split.train)} rows of the train part have the label {label!r}: expected at least two labels "
            f"of {', '.join(map(repr, dataset.signature.labels))}. Give rows of the others, or another split."
        )


def _identity(
    spec: TrainingSpec, dataset: Dataset, split: Split, network: keras.Model, earlier: Artifact | None
) -> Identity:
    """What a checkpoint must have been written for, to be resumed from."""
    optimizer: Any = network.optimizer
    variables = [*network.variables, *optimizer.variables]
    return {
        "specification": digest_of(spec.model_dump(mode="json")),
        # The digest of a data set does not depend on the order of its rows; the batches do.
        "data set": digest_of(
            [
                dataset.sha256,
                *([dataset.row_digests[row].hex() for row in part] for part in (split.train, split.validation)),
            ]
        ),
        "network": digest_of([[list(variable.shape), str(variable.dtype)] for variable in variables]),
        "version to begin with": earlier.hashes[KERAS] if earlier else "none",
        "set of libraries": digest_of({name: importlib.metadata.version(name) for name in _LIBRARIES}),
    }


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


def _row_weights(spec: TrainingSpec, dataset: Dataset, split: Split) -> tuple[np.ndarray, ...]:
    """Weights of the train rows that give every class the same total, as scikit-learn's "balanced" does; or none."""
    if spec.training.class_weight != "balanced":
        return ()
    labels = dataset.targets[split.train]
    counts = np.bincount(labels, minlength=len(dataset.signature.labels))
    return ((len(labels) / (len(counts) * counts[labels])).astype(np.float32),)


def predict_raw(model: Any, rows: np.ndarray) -> Any:
    """What the network gives for rows in raw units: an array, or a dict of them for named outputs."""
    slices = [model(rows[start : start + 1024], training=False) for start in range(0, len(rows), 1024)]
    return keras.tree.map_structure(lambda *parts: np.concatenate([np.asarray(part) for part in parts]), *slices)
