"""Fits a network to a data set: from a specification to a Keras model in raw units."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from models.artifact import KERAS, Artifact
from models.batches import n_batches, shuffled_batches
from models.checkpoint import Checkpoints, Identity, digest_of
from models.datasets import Dataset, Split, check_every_part
from models.devices import Device, describe_device
from models.diagnosis import EpochStatistics
from models.epochs import EpochReport, Epochs, Timing
from models.errors import InvalidDataset, NoGpu
from models.memory import check_memory, measure_size
from models.networks import Networks, build_networks, network_output
from models.objectives import loss_of, optimizer_of, row_weights, targets_of
from models.preprocessing import preprocessed, target_scale
from models.spec import TrainingSpec
from models.statistics import ROWS, Probe
from models.warm_start import take_weights

logger = logging.getLogger("vitrine.trainer")

_LIBRARIES = ("vitrine", "keras", "tensorflow", "numpy")
"""Those on which the bits of a fit depend."""


@dataclass(frozen=True, slots=True)
class FittedModel:
    """`model` takes raw units and gives raw units: `(n_rows, *input_shape)` to `(n_rows, n_network_outputs)`.

    `history` has for each epoch its metrics, its `learning_rate`, and the `penalty` on weights within its losses.
    `timing` counts every attempt. `warnings` are for a person to read. `statistics` are of the layers, after each epoch
    at first, after fewer later. `device` is where it was fitted, in words.
    """

    model: keras.Model
    history: dict[str, list[float]]
    best_epoch: int
    timing: Timing
    warnings: tuple[str, ...]
    statistics: tuple[EpochStatistics, ...]
    device: str


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
        NotEnoughMemory: when the network would not fit into the memory that there is.
        NoGpu: when the specification needs one.
    """
    _check_parts(dataset, split)
    device = describe_device()
    if spec.training.mixed_precision and not device.is_gpu:
        raise NoGpu()
    keras.utils.set_random_seed(spec.training.seed)
    tf.config.experimental.enable_op_determinism()
    signature, smoothing = dataset.signature, spec.regularization.label_smoothing
    scale = target_scale(dataset.targets[split.train]) if signature.task == "regression" else (0.0, 1.0)
    networks = _build(spec, dataset, split, scale, device)
    network = networks.trained
    if earlier is not None and spec.from_version is not None:
        take_weights(network, earlier, spec.from_version)
    targets = targets_of(dataset.targets, signature, scale=scale, label_smoothing=smoothing)
    network.compile(
        optimizer=optimizer_of(spec.training),
        loss=loss_of(spec.training.loss, smoothing, signature),
        metrics=["mae"] if signature.task == "regression" else ["accuracy"],
    )
    optimizer: Any = network.optimizer
    optimizer.build(network.trainable_variables)
    store = Checkpoints(checkpoints, _identity(spec, dataset, split, network, earlier), fence) if checkpoints else None
    looked_at = split.train[np.linspace(0, len(split.train) - 1, min(ROWS, len(split.train))).astype(np.int64)]
    epochs = Epochs(
        spec.training,
        {"mae": scale[1], "val_mae": scale[1]},
        store,
        report,
        Probe(network, dataset.inputs[looked_at], targets[looked_at]),
        device.peak_bytes,
    )
    if store and (checkpoint := store.latest()):
        epochs.resume(checkpoint, network)
    if not epochs.finished:
        logger.info("fitting %d parameters on %s", network.count_params(), device.name)
        batch_size = spec.training.batch_size
        weights = row_weights(spec.training.class_weight, dataset.targets[split.train], signature)
        learned = (dataset.inputs[split.train], targets[split.train], *weights)
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
    networks.take_over(epochs.best_weights)
    return FittedModel(
        networks.served,
        epochs.history,
        epochs.best_epoch,
        epochs.timing,
        epochs.warnings,
        tuple(epochs.statistics),
        device.name,
    )


def _check_parts(dataset: Dataset, split: Split) -> None:
    check_every_part(split, dataset.row_digests)
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


def _build(spec: TrainingSpec, dataset: Dataset, split: Split, scale: tuple[float, float], device: Device) -> Networks:
    signature, architecture, training = dataset.signature, spec.architecture, spec.training
    assert architecture is not None  # parse_spec fills it in
    inputs = keras.Input(signature.input_shape, name=signature.kind)
    flat = architecture.type == "mlp"
    prepared = preprocessed(inputs, signature, dataset.inputs[split.train], spec.preprocessing, flat=flat)
    size = measure_size(
        lambda rows: network_output(rows, architecture, spec.regularization, signature), tuple(prepared.shape[1:])
    )
    check_memory(
        size.fit_bytes(training.optimizer, training.batch_size),
        device.available_bytes(),
        parameters=size.parameters,
        batch_size=training.batch_size,
    )
    return build_networks(
        inputs,
        prepared,
        architecture,
        spec.regularization,
        signature,
        scale=scale,
        mixed_precision=training.mixed_precision,
    )


def predict_raw(model: Any, rows: np.ndarray) -> Any:
    """What the network gives for rows in raw units: an array, or a dict of them for named outputs."""
    slices = [model(rows[start : start + 1024], training=False) for start in range(0, len(rows), 1024)]
    return keras.tree.map_structure(lambda *parts: np.concatenate([np.asarray(part) for part in parts]), *slices)
