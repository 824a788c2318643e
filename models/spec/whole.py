"""A whole specification: its parts together, validated, with every default filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from models.builtins import facts_of_builtin
from models.errors import Fault, InvalidSpec
from models.facts import DataFacts
from models.signature import Task
from models.spec import data, fitting, gating, network, preprocessing
from models.spec.data import BackgroundSpec, DatasetSpec, FeatureKinds, SplitSpec
from models.spec.fitting import FitSpec
from models.spec.gating import GatesSpec
from models.spec.network import ArchitectureSpec, RegularizationSpec
from models.spec.part import Part
from models.spec.preprocessing import PreprocessingSpec
from models.spec.proposal import space_misfits
from models.spec.running import LimitsSpec, Priority
from models.spec.search import DEFAULT_METRIC, SearchSpec, default_space, search_misfits
from models.validation import read_as

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
    task: Annotated[Task | None, Field(description="null: as the values of the target suggest")] = None
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
    search: SearchSpec | None = None
    background: BackgroundSpec = BackgroundSpec()
    gates: GatesSpec = GatesSpec()
    signature: Annotated[
        Literal["same", "may-change"], Field(description="whether features and labels must be the champion's")
    ] = "same"
    promote: Literal["if-gates-pass", "never"] = "if-gates-pass"
    priority: Annotated[Priority, Field(description="of two jobs that wait, which is begun first")] = "normal"
    limits: LimitsSpec = LimitsSpec()


def builtin_facts(spec: TrainingSpec) -> DataFacts:
    """The facts of built-in data, for where no files are read."""
    if spec.dataset.builtin is None:
        given = "an id" if spec.dataset.id else "a path"
        raise InvalidSpec([Fault("#/dataset", "built-in data: no data folder is at hand here", given)])
    return facts_of_builtin(spec.dataset.builtin)


def parse_spec(document: Any, facts_of: Callable[[TrainingSpec], DataFacts] = builtin_facts) -> TrainingSpec:
    """Validates a specification and fills in every default, those that depend on the data set too.

    Args:
        facts_of: finds the facts of the data that a specification names, as `DataFolder.facts_of` does.

    Raises:
        InvalidSpec: naming every fault by JSON pointer.
    """
    spec = read_spec(document)
    return fill_in(spec, facts_of(spec))


def read_spec(document: Any) -> TrainingSpec:
    """A specification that is well-formed; whether it fits its data is not looked at.

    Raises:
        InvalidSpec: naming every fault by JSON pointer.
    """
    return read_as(TrainingSpec, document)


def fill_in(spec: TrainingSpec, facts: DataFacts) -> TrainingSpec:
    """A specification with every default filled in, for data of which these facts are known.

    Raises:
        InvalidSpec: naming every place where it does not fit them.
    """
    faults = [*data.target_misfits(spec.target, spec.task, facts), *data.feature_misfits(spec.features, facts)]
    if not faults:
        facts = facts.with_features(spec.features)
    if faults := [*faults, *_misfits(spec, facts)]:
        raise InvalidSpec(faults)
    filled = spec.model_copy(
        update={
            "target": facts.target,
            "task": facts.task,
            "architecture": spec.architecture or network.default_architecture(facts),
            "training": fitting.filled_in(spec.training),
            "positive_label": spec.positive_label or (facts.labels[1] if len(facts.labels) == 2 else None),
        }
    )
    return _with_search(filled, facts)


def _with_search(spec: TrainingSpec, facts: DataFacts) -> TrainingSpec:
    """A specification whose other defaults are filled in, with the space of its search."""
    if spec.search is None:
        return spec
    faults = list(search_misfits(spec.search, spec.model_dump(mode="json"), facts))
    space = default_space(facts) if spec.search.space is None else spec.search.space
    if faults := faults or list(space_misfits(spec, space)):
        raise InvalidSpec(faults)
    metric = spec.search.metric or DEFAULT_METRIC[facts.task]
    return spec.model_copy(update={"search": spec.search.model_copy(update={"metric": metric, "space": space})})


def _misfits(spec: TrainingSpec, facts: DataFacts) -> Iterator[Fault]:
    """Where a well-formed specification does not fit its data set, whose facts are as its `features` have them."""
    yield from data.split_misfits(spec.split, facts)
    yield from preprocessing.preprocessing_misfits(spec.preprocessing, facts)
    yield from network.architecture_misfits(spec.architecture, facts)
    yield from network.regularization_misfits(spec.regularization, facts)
    yield from data.sensitive_misfits(spec.sensitive, facts)
    yield from data.label_misfits(spec.positive_label, facts)
    yield from fitting.fit_misfits(spec.training, facts)
    yield from gating.gate_misfits(spec.gates, facts, spec.sensitive)
    if spec.warm_start and spec.from_version is None:
        yield Fault("#/warm_start", 'false, or "from" with the version whose weights to begin with', "true")
