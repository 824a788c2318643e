"""A whole specification: its parts together, validated, with every default filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, ValidationError

from models.datasets import BUILTINS, Builtin
from models.errors import Fault, InvalidSpec
from models.rows import describe
from models.spec import data, fitting, gating, network
from models.spec.data import BackgroundSpec, DatasetSpec, FeatureKinds, SplitSpec
from models.spec.fitting import FitSpec
from models.spec.gating import GatesSpec
from models.spec.network import ArchitectureSpec, RegularizationSpec
from models.spec.part import Part
from models.spec.preprocessing import PreprocessingSpec
from models.spec.running import LimitsSpec, Priority
from models.validation import faults_of

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["digits"])]


class TrainingSpec(Part):
    """The body of `POST /train`. Keys left out take the defaults shown; an unknown key is refused."""

    model: ModelName
    from_version: Annotated[
        int | None,
        Field(
            alias="from",
            ge=1,
            description="the version whose specification this one was made of; in a request also an alias",
        ),
    ] = None
    warm_start: Annotated[bool, Field(description="begin with the weights of that version")] = False
    dataset: DatasetSpec
    target: str | None = None
    features: FeatureKinds = Field(default={})
    positive_label: str | None = None
    sensitive: Annotated[
        tuple[str, ...], Field(max_length=10, description="columns by whose groups it is evaluated, ignored ones too")
    ] = ()
    split: SplitSpec = SplitSpec()
    preprocessing: PreprocessingSpec = PreprocessingSpec()
    architecture: ArchitectureSpec | None = None
    regularization: RegularizationSpec = RegularizationSpec()
    training: FitSpec = FitSpec()
    background: BackgroundSpec = BackgroundSpec()
    gates: GatesSpec = GatesSpec()
    promote: Literal["if-gates-pass", "never"] = "if-gates-pass"
    priority: Annotated[Priority, Field(description="of two jobs that wait, which is begun first")] = "normal"
    limits: LimitsSpec = LimitsSpec()


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
            "architecture": spec.architecture or network.default_architecture(builtin),
            "positive_label": spec.positive_label or (builtin.labels[1] if len(builtin.labels) == 2 else None),
        }
    )


def _misfits(spec: TrainingSpec, builtin: Builtin) -> Iterator[Fault]:
    """Where a well-formed specification does not fit its data set."""
    yield from data.target_misfits(spec.target, builtin)
    yield from data.feature_misfits(spec.features, builtin)
    yield from data.split_misfits(spec.split, builtin)
    yield from network.architecture_misfits(spec.architecture, builtin)
    yield from data.sensitive_misfits(spec.sensitive, builtin)
    yield from data.label_misfits(spec.positive_label, builtin)
    yield from fitting.fit_misfits(spec.training, builtin)
    yield from gating.gate_misfits(spec.gates, builtin, spec.sensitive)
    if spec.warm_start and spec.from_version is None:
        yield Fault("#/warm_start", 'false, or "from" with the version whose weights to begin with', "true")
