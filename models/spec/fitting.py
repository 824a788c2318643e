"""How a network is fitted: optimizer, learning rate, epochs, when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from models.datasets import Builtin
from models.errors import Fault
from models.spec.part import Part


class EarlyStoppingSpec(Part):
    patience: Annotated[int, Field(ge=1)] = 5


class CosineSpec(Part):
    """From `learning_rate` down to 0 over all epochs, in half a cosine wave."""

    type: Literal["cosine"]


class PlateauSpec(Part):
    """The rate is multiplied by `factor` when the validation loss has not improved for `patience` epochs."""

    type: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Annotated[int, Field(ge=1)] = 3


ScheduleSpec = Annotated[CosineSpec | PlateauSpec, Field(discriminator="type")]


class FitSpec(Part):
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: ScheduleSpec | None = None
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 50
    batch_size: Annotated[int, Field(ge=1)] = 32
    early_stopping: EarlyStoppingSpec | None = EarlyStoppingSpec()
    class_weight: Literal["balanced"] | None = None
    calibration: Annotated[
        Literal["temperature"] | None,
        Field(description="divide logits by the temperature that fits the validation part, inside the model"),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


def fit_misfits(training: FitSpec, builtin: Builtin) -> Iterator[Fault]:
    """Where the fit does not suit the task."""
    if training.class_weight and builtin.task != "classification":
        yield Fault("#/training/class_weight", "null for a regression", "the string 'balanced'")
    if training.calibration and builtin.task != "classification":
        yield Fault("#/training/calibration", "null for a regression", "the string 'temperature'")
