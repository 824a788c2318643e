"""What the validation losses so far decide: the next epoch's learning rate, and whether there is a next epoch.

Each is a value that `after(loss)` turns into the next one. Both follow from the losses alone: whoever has the history
has their state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from models.spec.fitting import CosineSpec, ExponentialSpec, FitSpec, PlateauSpec, StepSpec


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Knows the epoch with the lowest validation loss, and stops `patience` epochs after it (never when None)."""

    patience: int | None
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best so far."""
        return self.epoch == self.best_epoch

    @property
    def stops(self) -> bool:
        return self.patience is not None and self.epoch - self.best_epoch >= self.patience

    def after(self, loss: float) -> EarlyStopping:
        epoch = self.epoch + 1
        if loss < self.best_loss:
            return replace(self, epoch=epoch, best_epoch=epoch, best_loss=loss)
        return replace(self, epoch=epoch)


@dataclass(frozen=True, slots=True)
class ConstantRate:
    rate: float

    def after(self, loss: float) -> ConstantRate:  # noqa: ARG002 - every schedule is told
        return self


@dataclass(frozen=True, slots=True)
class CosineRate:
    """Half a cosine wave from the first rate down to 0, which it would reach after the last epoch.

    Loshchilov and Hutter (2017), "SGDR: Stochastic gradient descent with warm restarts", equation 5, without restarts.
    """

    first_rate: float
    epochs: int
    epoch: int = 0

    @property
    def rate(self) -> float:
        return self.first_rate * 0.5 * (1.0 + math.cos(math.pi * self.epoch / self.epochs))

    def after(self, loss: float) -> CosineRate:  # noqa: ARG002 - every schedule is told
        return replace(self, epoch=self.epoch + 1)


@dataclass(frozen=True, slots=True)
class PlateauRate:
    """Multiplied by `factor` whenever the loss has not improved for `patience` epochs since it last did, or since
    the rate last fell."""

    rate: float
    factor: float
    patience: int
    best_loss: float = math.inf
    waited: int = 0

    def after(self, loss: float) -> PlateauRate:
        if loss < self.best_loss:
            return replace(self, best_loss=loss, waited=0)
        if self.waited + 1 < self.patience:
            return replace(self, waited=self.waited + 1)
        return replace(self, rate=self.rate * self.factor, waited=0)


@dataclass(frozen=True, slots=True)
class SteppedRate:
    """Multiplied by `factor` after every so many epochs."""

    first_rate: float
    factor: float
    every: int
    epoch: int = 0

    @property
    def rate(self) -> float:
        return self.first_rate * self.factor ** (self.epoch // self.every)

    def after(self, loss: float) -> SteppedRate:  # noqa: ARG002 - every schedule is told
        return replace(self, epoch=self.epoch + 1)


@dataclass(frozen=True, slots=True)
class WarmingRate:
    """Rises evenly over so many epochs to the first rate of the schedule that then begins (Goyal et al. 2017)."""

    then: ConstantRate | CosineRate | PlateauRate | SteppedRate
    epochs: int
    epoch: int = 0

    @property
    def rate(self) -> float:
        return self.then.rate * (self.epoch + 1) / (self.epochs + 1)

    def after(self, loss: float) -> LearningRate:  # noqa: ARG002 - every schedule is told
        return replace(self, epoch=self.epoch + 1) if self.epoch + 1 < self.epochs else self.then


LearningRate = ConstantRate | CosineRate | PlateauRate | SteppedRate | WarmingRate


def first_rate(training: FitSpec) -> LearningRate:
    """The learning rate of the first epoch, and by `after` that of each later one."""
    then = _without_warmup(training)
    return WarmingRate(then, training.warmup_epochs) if training.warmup_epochs else then


def _without_warmup(training: FitSpec) -> ConstantRate | CosineRate | PlateauRate | SteppedRate:
    match training.schedule:
        case None:
            return ConstantRate(training.learning_rate)
        case CosineSpec():
            return CosineRate(training.learning_rate, training.epochs - training.warmup_epochs)
        case PlateauSpec(factor=factor, patience=patience):
            return PlateauRate(training.learning_rate, factor, patience)
        case ExponentialSpec(factor=factor):
            return SteppedRate(training.learning_rate, factor, 1)
        case StepSpec(factor=factor, every=every):
            return SteppedRate(training.learning_rate, factor, every)
