"""How a network is fitted: loss, optimizer, learning rate, epochs, when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from models.errors import Fault, pointer
from models.facts import DataFacts
from models.spec.part import Part

MOMENTUM, WEIGHT_DECAY = 0.9, 0.004
"""Of SGD and of AdamW, where a specification names none."""

Loss = Literal["auto", "cross-entropy", "binary-cross-entropy", "categorical-cross-entropy", "mse", "mae", "huber"]
CLASSIFICATION_LOSSES = ("cross-entropy", "binary-cross-entropy", "categorical-cross-entropy")
REGRESSION_LOSSES = ("mse", "mae", "huber")


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


class ExponentialSpec(Part):
    """The rate is multiplied by `factor` after every epoch."""

    type: Literal["exponential"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.95


class StepSpec(Part):
    """The rate is multiplied by `factor` after every so many epochs."""

    type: Literal["step"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    every: Annotated[int, Field(ge=1)] = 10


ScheduleSpec = Annotated[CosineSpec | PlateauSpec | ExponentialSpec | StepSpec, Field(discriminator="type")]


class ClipNormSpec(Part):
    """All gradients together are shortened to this length where they are longer (Pascanu et al. 2013)."""

    type: Literal["norm"]
    limit: Annotated[float, Field(gt=0)] = 1.0


class ClipValueSpec(Part):
    """Each gradient is cut to [-limit, limit]."""

    type: Literal["value"]
    limit: Annotated[float, Field(gt=0)] = 0.5


ClipSpec = Annotated[ClipNormSpec | ClipValueSpec, Field(discriminator="type")]
ClassWeights = Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]]


class FitSpec(Part):
    loss: Annotated[
        Loss, Field(description="auto: cross-entropy, or the mean squared error of standardized targets")
    ] = "auto"
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    momentum: Annotated[float | None, Field(ge=0, lt=1, description="of sgd (default 0.9) and rmsprop (default 0)")] = (
        None
    )
    weight_decay: Annotated[
        float | None, Field(ge=0, description="of every weight in each step, by the rate; default 0, of adamw 0.004")
    ] = None
    gradient_clip: ClipSpec | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: ScheduleSpec | None = None
    warmup_epochs: Annotated[int, Field(ge=0, description="in which the rate rises evenly to where it begins")] = 0
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 50
    batch_size: Annotated[int, Field(ge=1)] = 32
    early_stopping: EarlyStoppingSpec | None = EarlyStoppingSpec()
    class_weight: Annotated[ClassWeights | None, Field(description='"balanced", or a weight for each label')] = None
    mixed_precision: Annotated[bool, Field(description="float16 beside float32; needs a GPU")] = False
    folds: Annotated[int, Field(ge=0, le=20, description="0, or fits for a cross-validation beside the version")] = 0
    calibration: Annotated[
        Literal["temperature"] | None,
        Field(description="divide logits by the temperature that fits the validation part, inside the model"),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


def filled_in(training: FitSpec) -> FitSpec:
    """With the defaults that depend on the optimizer."""
    momentum = {"sgd": MOMENTUM, "rmsprop": 0.0}.get(training.optimizer)
    weight_decay = WEIGHT_DECAY if training.optimizer == "adamw" else 0.0
    return training.model_copy(
        update={
            "momentum": momentum if training.momentum is None else training.momentum,
            "weight_decay": weight_decay if training.weight_decay is None else training.weight_decay,
        }
    )


def fit_misfits(training: FitSpec, facts: DataFacts) -> Iterator[Fault]:
    """Where the fit does not suit the task, or its keys each other."""
    yield from _class_weight_misfits(training.class_weight, facts)
    yield from _loss_misfits(training.loss, facts)
    if training.momentum is not None and training.optimizer not in ("sgd", "rmsprop"):
        expected = f"null for {training.optimizer}: sgd and rmsprop have a momentum"
        yield Fault("#/training/momentum", expected, f"the number {training.momentum:g}")
    if training.warmup_epochs >= training.epochs:
        expected = f"fewer than the epochs, {training.epochs}"
        yield Fault("#/training/warmup_epochs", expected, f"the number {training.warmup_epochs}")
    if training.calibration and facts.task != "classification":
        yield Fault("#/training/calibration", "null for a regression", "the string 'temperature'")
    if training.folds == 1:
        yield Fault("#/training/folds", "0 for none, or at least 2", "the number 1")


def _class_weight_misfits(class_weight: ClassWeights | None, facts: DataFacts) -> Iterator[Fault]:
    if class_weight is None:
        return
    if facts.task != "classification":
        received = "the string 'balanced'" if class_weight == "balanced" else "an object"
        yield Fault("#/training/class_weight", "null for a regression", received)
    elif isinstance(class_weight, dict):
        for label in class_weight:
            if label not in facts.labels:
                expected = f"one of {', '.join(facts.labels)}"
                yield Fault(pointer("training", "class_weight", label), expected, "an unknown label")
        if missing := [label for label in facts.labels if label not in class_weight]:
            expected = f"a weight for each label; {', '.join(missing)} have none"
            yield Fault("#/training/class_weight", expected, f"{len(class_weight)} weights")


def _loss_misfits(loss: str, facts: DataFacts) -> Iterator[Fault]:
    received = f"the string {loss!r}"
    if facts.task == "regression" and loss in CLASSIFICATION_LOSSES:
        yield Fault("#/training/loss", f"auto, {', '.join(REGRESSION_LOSSES)} for a regression", received)
    if facts.task == "classification" and loss in REGRESSION_LOSSES:
        yield Fault("#/training/loss", "auto or cross-entropy for a classification", received)
    if facts.task == "classification" and facts.labels:
        wrong = "categorical-cross-entropy" if len(facts.labels) == 2 else "binary-cross-entropy"
        if loss == wrong:
            yield Fault("#/training/loss", f"auto or cross-entropy for {len(facts.labels)} labels", received)
