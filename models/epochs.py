"""What happens after each batch and each epoch of a fit: judged, remembered, stored, reported, in this order."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Any, cast

import keras
import numpy as np
from numpy.typing import NDArray

from models.checkpoint import Checkpoint, CheckpointNotWritten, Checkpoints
from models.diagnosis import EpochStatistics, LayerFigures, warnings_of
from models.errors import LossNotFinite
from models.schedule import EarlyStopping, first_rate
from models.spec.fitting import FitSpec
from models.statistics import is_measured

logger = logging.getLogger("vitrine.trainer")

_NO_METRICS = ("learning_rate", "penalty")
"""What the history holds beside the metrics of each epoch."""

_LATEST = 10
"""Measured epochs from which the warnings of a running fit are told."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Where a fit stands after an epoch. `metrics` holds finite numbers only; `warning` is for a person to read.

    `validation_errors` has the validation loss of every epoch so far, without the penalties on weights, so that fits
    with other penalties can be compared. Of a cross-validation, `fold` says which of its `folds` is fitted.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds_left: float
    validation_errors: Sequence[float]
    warning: str | None = None
    fold: int | None = None
    folds: int | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that the epochs took, over all attempts. The first of an attempt compiles the step: it says nothing
    about those that follow, so the others are counted apart.

    `epoch_seconds` and `peak_bytes` are of each epoch: what it took, and the most memory held until its end.
    """

    seconds: float = 0.0
    epochs: int = 0
    steady_seconds: float = 0.0
    steady_epochs: int = 0
    epoch_seconds: tuple[float, ...] = ()
    peak_bytes: tuple[int | None, ...] = ()

    def after(self, seconds: float, *, compiling: bool, peak_bytes: int | None = None) -> Timing:
        total = replace(
            self,
            seconds=self.seconds + seconds,
            epochs=self.epochs + 1,
            epoch_seconds=(*self.epoch_seconds, round(seconds, 4)),
            peak_bytes=(*self.peak_bytes, peak_bytes),
        )
        if compiling:
            return total
        steady = self.steady_seconds + seconds
        return replace(total, steady_seconds=steady, steady_epochs=self.steady_epochs + 1)

    def of_next(self, epochs: int) -> float:
        """Seconds that as many more epochs should take."""
        if self.steady_epochs:
            return epochs * self.steady_seconds / self.steady_epochs
        return epochs * self.seconds / self.epochs


class Epochs(keras.callbacks.Callback):
    """Sets each epoch's learning rate, keeps the weights of the best epoch, stops early, and stores checkpoints.

    Args:
        units: by name of a metric, what it is multiplied by to be in the target's units.
        checkpoints: None to store none.
        probe: measures the layers of the network; None to measure nothing.
        peak_bytes: the most memory that was held until now.
    """

    def __init__(
        self,
        training: FitSpec,
        units: dict[str, float],
        checkpoints: Checkpoints | None,
        report: Callable[[EpochReport], None],
        probe: Callable[[], Mapping[str, LayerFigures]] | None = None,
        peak_bytes: Callable[[], int | None] = lambda: None,
    ) -> None:
        super().__init__()
        self._training, self._units, self._checkpoints, self._report = training, units, checkpoints, report
        self._probe, self._peak_bytes = probe, peak_bytes
        stopping = training.early_stopping
        self._stopping = EarlyStopping(stopping.patience if stopping else None)
        self._rate = first_rate(training)
        self._not_stored: dict[str, list[int]] = {}
        self._since = monotonic()
        self._compiling = True
        self.history: dict[str, list[float]] = {}
        self.statistics: list[EpochStatistics] = []
        self.best_weights: Sequence[NDArray[Any]] = ()
        self.timing = Timing()

    @property
    def done(self) -> int:
        """Epochs that are done."""
        return self._stopping.epoch

    @property
    def finished(self) -> bool:
        return self._stopping.stops or self.done == self._training.epochs

    @property
    def best_epoch(self) -> int:
        return self._stopping.best_epoch

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of this fit, though it went on."""
        return self._warnings(self.statistics)

    def _warnings(self, statistics: Sequence[EpochStatistics]) -> tuple[str, ...]:
        not_stored = (
            f"Checkpoints could not be written after {_in_words(epochs)}: {cause}."
            for cause, epochs in self._not_stored.items()
        )
        found = warnings_of(
            self.history,
            statistics,
            epochs=self._training.epochs,
            best_epoch=self.best_epoch,
            stopped_early=self._stopping.stops,
        )
        return (*not_stored, *found)

    def resume(self, checkpoint: Checkpoint, network: Any) -> None:
        """Takes up the state of a checkpoint, as if this process had run its epochs, and reports the last of them.

        `network` is compiled, and its optimizer built.
        """
        for variables, values in (
            (network.variables, checkpoint.variables),
            (network.optimizer.variables, checkpoint.optimizer_variables),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self.history = checkpoint.history
        self.best_weights = checkpoint.best_weights
        self.statistics = [EpochStatistics(**each) for each in checkpoint.statistics]
        self.timing = Timing(**{name: _frozen(value) for name, value in checkpoint.timing.items()})
        for loss in checkpoint.history["val_loss"]:
            self._stopping, self._rate = self._stopping.after(loss), self._rate.after(loss)
        logger.info("resuming after epoch %d of %d", self.done, self._training.epochs)
        self._tell({name: values[-1] for name, values in self.history.items() if name not in _NO_METRICS})

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - Keras's names
        network: Any = self.model
        network.optimizer.learning_rate = self._rate.rate

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # `loss` is the mean over the epoch so far: it stops being finite with the first batch whose loss is not.
        self._check((logs or {})["loss"], f"batch {batch + 1} of {cast(Any, self.params)['steps']}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - Keras's names
        network: Any = self.model
        metrics = {name: float(value) * self._units.get(name, 1.0) for name, value in (logs or {}).items()}
        self._check(metrics["val_loss"], "the validation part")
        figures = {**metrics, "learning_rate": self._rate.rate, "penalty": float(sum(network.losses))}
        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)
        self._stopping = self._stopping.after(metrics["val_loss"])
        self._rate = self._rate.after(metrics["val_loss"])
        if self._stopping.improved:
            self.best_weights = network.get_weights()
        if self._probe is not None and is_measured(self.done):
            self.statistics.append(EpochStatistics(self.done, self._probe()))
        now = monotonic()
        self.timing = self.timing.after(now - self._since, compiling=self._compiling, peak_bytes=self._peak_bytes())
        self._since, self._compiling = now, False
        self._store(network)
        self._tell(metrics)
        network.stop_training = self.finished

    def _check(self, loss: float, place: str) -> None:
        if not math.isfinite(loss):
            raise LossNotFinite(loss, self.done + 1, place, self._training.learning_rate)

    def _store(self, network: Any) -> None:
        if self._checkpoints is None:
            return
        checkpoint = Checkpoint(
            epoch=self.done,
            variables=[np.asarray(variable) for variable in network.variables],
            optimizer_variables=[np.asarray(variable) for variable in network.optimizer.variables],
            best_weights=self.best_weights,
            history=self.history,
            timing=asdict(self.timing),
            statistics=[asdict(each) for each in self.statistics],
        )
        try:
            self._checkpoints.save(checkpoint)
        except CheckpointNotWritten as error:
            # What is lost is the time to fit these epochs again if this process is killed, never the fit itself.
            self._not_stored.setdefault(str(error), []).append(self.done)
            logger.warning(
                "the checkpoint of epoch %d could not be written to %s: %s. Training goes on without it.",
                self.done,
                self._checkpoints.directory,
                error,
            )

    def _tell(self, metrics: dict[str, float]) -> None:
        left = 0.0 if self.finished else self.timing.of_next(self._training.epochs - self.done)
        # Of the latest epochs alone: a long fit is not gone through again after each of its epochs.
        warning = " ".join(self._warnings(self.statistics[-_LATEST:])) or None
        losses, penalties = self.history["val_loss"], self.history["penalty"]
        errors = [loss - penalty for loss, penalty in zip(losses, penalties, strict=True)]
        self._report(EpochReport(self.done, self._training.epochs, metrics, round(left, 1), errors, warning))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _in_words(epochs: Sequence[int]) -> str:
    """Ascending epochs as ranges: "epoch 3", "epochs 3 to 5 and 9"."""
    ranges: list[list[int]] = []
    for epoch in epochs:
        if ranges and ranges[-1][-1] == epoch - 1:
            ranges[-1] = [ranges[-1][0], epoch]
        else:
            ranges.append([epoch])
    named = [" to ".join(str(end) for end in ends) for ends in ranges]
    text = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return f"epoch{'s' if len(epochs) > 1 else ''} {text}"
