"""What a training job is asked to do: every key known, every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.datasets import BUILTINS, Builtin
from models.errors import Fault, InvalidSpec, pointer
from models.rows import describe
from models.validation import faults_of

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["digits"])]
METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "precision", "recall", "f1"),
    "regression": ("mae", "mse", "r2"),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatasetSpec(_Part):
    builtin: str


class SplitSpec(_Part):
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    by: Annotated[str, Field(description='"row", or a column whose rows stay together')] = "row"


class PreprocessingSpec(_Part):
    scaling: Literal["standard", "none"] = "standard"


class ArchitectureSpec(_Part):
    type: Literal["mlp", "cnn"]
    layers: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=16)]
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"


class RegularizationSpec(_Part):
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    l1: Annotated[float, Field(ge=0)] = 0.0
    l2: Annotated[float, Field(ge=0)] = 1e-4


class EarlyStoppingSpec(_Part):
    patience: Annotated[int, Field(ge=1)] = 5


class CosineSpec(_Part):
    """From `learning_rate` down to 0 over all epochs, in half a cosine wave."""

    type: Literal["cosine"]


class PlateauSpec(_Part):
    """The rate is multiplied by `factor` when the validation loss has not improved for `patience` epochs."""

    type: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Annotated[int, Field(ge=1)] = 3


ScheduleSpec = Annotated[CosineSpec | PlateauSpec, Field(discriminator="type")]


class FitSpec(_Part):
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: ScheduleSpec | None = None
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 50
    batch_size: Annotated[int, Field(ge=1)] = 32
    early_stopping: EarlyStoppingSpec | None = EarlyStoppingSpec()
    class_weight: Literal["balanced"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class BackgroundSpec(_Part):
    rows: Annotated[int, Field(ge=1, le=10_000)] = 100
    kind: Literal["sample"] = "sample"


class GatesSpec(_Part):
    min: dict[str, float] = {}


class TrainingSpec(_Part):
    """The body of `POST /train`. Keys left out take the defaults shown; an unknown key is refused."""

    model: ModelName
    dataset: DatasetSpec
    target: str | None = None
    features: dict[str, Literal["numeric", "image", "ignore"]] = {}
    positive_label: str | None = None
    split: SplitSpec = SplitSpec()
    preprocessing: PreprocessingSpec = PreprocessingSpec()
    architecture: ArchitectureSpec | None = None
    regularization: RegularizationSpec = RegularizationSpec()
    training: FitSpec = FitSpec()
    background: BackgroundSpec = BackgroundSpec()
    gates: GatesSpec = GatesSpec()
    promote: Literal["if-gates-pass", "never"] = "if-gates-pass"


def parse_spec(document: Any) -> TrainingSpec:
    """Validates a specification and fills in every default, those that depend on the data set too.

    Raises:
        InvalidSpec: naming every fault by JSON pointer.
    """
    if not isinstance(document, Mapping):
        raise InvalidSpec([Fault("#", "an object", describe(document))])
    try:
        encoded = orjson.dumps(document)
    except orjson.JSONEncodeError:
        raise InvalidSpec([Fault("#", "an object nested less than 250 levels deep", describe(document))]) from None
    try:
        spec = TrainingSpec.model_validate_json(encoded)
    except ValidationError as error:
        raise InvalidSpec(faults_of(error, TrainingSpec, document)) from None
    builtin = BUILTINS.get(spec.dataset.builtin)
    if builtin is None:
        expected = f"one of {', '.join(BUILTINS)}"
        raise InvalidSpec([Fault("#/dataset/builtin", expected, describe(spec.dataset.builtin), "no such data set")])
    if faults := list(_misfits(spec, builtin)):
        raise InvalidSpec(faults)
    return spec.model_copy(
        update={
            "target": builtin.target,
            "architecture": spec.architecture or _default_architecture(builtin),
            "positive_label": spec.positive_label or (builtin.labels[1] if len(builtin.labels) == 2 else None),
        }
    )


def _default_architecture(builtin: Builtin) -> ArchitectureSpec:
    if builtin.kind == "image":
        return ArchitectureSpec(type="cnn", layers=(32, 64))
    return ArchitectureSpec(type="mlp", layers=(64, 32))


def _misfits(spec: TrainingSpec, builtin: Builtin) -> list[Fault]:
    """Where a well-formed specification does not fit its data set."""
    faults: list[Fault] = []
    if spec.target not in (None, builtin.target):
        faults.append(Fault("#/target", f"{builtin.target!r}", describe(spec.target)))
    for name, kind in spec.features.items():
        if name not in builtin.features:
            expected = "a feature of the data set: " + ", ".join(builtin.features)
            faults.append(Fault(pointer("features", name), expected, "an unknown name"))
        elif kind not in ("ignore", builtin.kind):
            faults.append(Fault(pointer("features", name), f"{builtin.kind!r} or 'ignore'", describe(kind)))
    if set(builtin.features) <= {name for name, kind in spec.features.items() if kind == "ignore"}:
        faults.append(Fault("#/features", "at least one feature that is not ignored", "every feature ignored"))
    if spec.split.by != "row" and (builtin.kind == "image" or spec.split.by not in builtin.features):
        groups = ["row"] if builtin.kind == "image" else ["row", *builtin.features]
        faults.append(Fault("#/split/by", "one of " + ", ".join(groups), describe(spec.split.by)))
    if spec.split.test + spec.split.validation >= 1:
        faults.append(
            Fault("#/split", "test + validation below 1", f"{spec.split.test + spec.split.validation:g} together")
        )
    if spec.architecture and spec.architecture.type == "cnn" and builtin.kind != "image":
        faults.append(Fault("#/architecture/type", "'mlp' for columns", "the string 'cnn'"))
    if spec.positive_label is not None and (len(builtin.labels) != 2 or spec.positive_label not in builtin.labels):
        expected = f"one of {', '.join(builtin.labels)}" if len(builtin.labels) == 2 else "nothing: not two labels"
        faults.append(Fault("#/positive_label", expected, describe(spec.positive_label)))
    if spec.training.class_weight and builtin.task != "classification":
        faults.append(Fault("#/training/class_weight", "null for a regression", "the string 'balanced'"))
    for name in spec.gates.min:
        if name not in METRICS[builtin.task]:
            expected = f"a metric of a {builtin.task}: {', '.join(METRICS[builtin.task])}"
            faults.append(Fault(pointer("gates", "min", name), expected, "an unknown metric"))
    return faults
