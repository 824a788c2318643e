"""What an import is asked to do: a user's own `.keras` file, what it takes and gives, and the rows that go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from models.errors import Fault, InvalidRows, InvalidSpec, pointer
from models.facts import DataFacts
from models.rows import decode_rows, describe
from models.signature import Feature, Signature, Task
from models.spec.data import BackgroundSpec, DatasetSpec, FeatureKinds, SplitSpec
from models.spec.gating import GatesSpec, gate_misfits
from models.spec.part import Part
from models.spec.running import LimitsSpec, Priority
from models.spec.whole import ModelName, TrainingSpec, builtin_facts, parse_spec
from models.validation import read_as

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class GivenFeature(Part):
    """A column (`shape` is empty), or the one image (`[height, width, channels]`) or series (`[steps, channels]`) of a
    row."""

    name: Annotated[str, Field(min_length=1)]
    kind: Literal["numeric", "boolean", "image", "series"] = "numeric"
    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    value_range: Annotated[
        tuple[float, float] | None, Field(description="of an image: its scale; default of a column: of the background")
    ] = None


class GivenSpec(Part):
    """A signature, the background, and, so that the version can be evaluated, rows with their truth."""

    features: Annotated[tuple[GivenFeature, ...], Field(min_length=1)]
    task: Literal["classification", "regression"]
    target: Annotated[str, Field(min_length=1)]
    labels: tuple[str, ...] = ()
    unit: str | None = None
    background: Annotated[tuple[Any, ...], Field(min_length=1, description="rows as POST /predict takes them")]
    inputs: Annotated[tuple[Any, ...], Field(description="rows that the model has not learned from")] = ()
    truth: Annotated[tuple[Any, ...], Field(description="of each of the inputs: its label, or its value")] = ()


class ImportSpec(Part):
    """The part `spec` of `POST /models/{m}/versions`: either a `dataset`, with the keys of `POST /train` that go with
    it, or what is `given`."""

    model: ModelName
    file: Annotated[Sha256, Field(description="SHA-256 of the .keras file")]
    outputs: Annotated[
        Literal["probabilities", "logits"], Field(description="what the model of a classification gives")
    ] = "probabilities"
    dataset: DatasetSpec | None = None
    given: GivenSpec | None = None
    target: str | None = None
    task: Task | None = None
    features: FeatureKinds = Field(default={})
    positive_label: str | None = None
    sensitive: Annotated[tuple[str, ...], Field(max_length=10)] = ()
    split: SplitSpec = SplitSpec()
    background: BackgroundSpec = BackgroundSpec()
    gates: GatesSpec = GatesSpec()
    signature: Annotated[
        Literal["same", "may-change"], Field(description="whether features and labels must be the champion's")
    ] = "same"
    promote: Literal["if-gates-pass", "never"] = "if-gates-pass"
    priority: Priority = "normal"
    limits: LimitsSpec = LimitsSpec()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def as_training(self, facts_of: Callable[[TrainingSpec], DataFacts] = builtin_facts) -> TrainingSpec:
        """The specification of a fit on the same data, with the same parts, gates and labels."""
        names = ("model", "dataset", "target", "task", "features", "positive_label", "sensitive", "split")
        names += ("background", "gates", "signature", "promote")
        document = self.model_dump(mode="json", exclude_unset=True)
        kept = {name: document[name] for name in names if name in document}
        return parse_spec({**kept, "training": {"seed": self.seed}}, facts_of)

    def given_signature(self) -> Signature:
        """The signature that is given; where a column's range is not, that of the background."""
        assert self.given is not None
        given = self.given
        features = [
            Feature(each.name, each.kind, each.shape, each.value_range or (0.0, 0.0)) for each in given.features
        ]
        unranged = Signature(tuple(features), given.task, given.target, given.labels, (), given.unit)
        if unranged.kind == "columns":
            rows = decode_rows(given.background, unranged)
            for i, each in enumerate(given.features):
                if each.value_range is None:
                    of_rows = (float(rows[:, i].min()), float(rows[:, i].max()))
                    features[i] = Feature(each.name, each.kind, each.shape, of_rows)
        return Signature(tuple(features), given.task, given.target, given.labels, (), given.unit)


def parse_import(document: Any, facts_of: Callable[[TrainingSpec], DataFacts] = builtin_facts) -> ImportSpec:
    """Validates what an import is asked to do.

    Args:
        facts_of: finds the facts of the data that a specification names, as `DataFolder.facts_of` does.

    Raises:
        InvalidSpec: naming every fault by JSON pointer.
    """
    spec = read_import(document)
    if spec.dataset is not None:
        training = spec.as_training(facts_of)
        filled = {"target": training.target, "task": training.task, "positive_label": training.positive_label}
        return spec.model_copy(update=filled)
    return spec


def read_import(document: Any) -> ImportSpec:
    """What an import is asked to do, well-formed; whether it fits its data set is not looked at.

    Raises:
        InvalidSpec: naming every fault by JSON pointer.
    """
    spec = read_as(ImportSpec, document)
    if faults := list(_misfits(spec)):
        raise InvalidSpec(faults)
    return spec


_AXES = {"image": ("height", "width", "channels"), "series": ("steps", "channels")}


def _misfits(spec: ImportSpec) -> Iterator[Fault]:
    if (spec.dataset is None) == (spec.given is None):
        received = "neither" if spec.given is None else "both"
        yield Fault("#/dataset", "either a dataset, or what is given (a signature and background rows)", received)
    if spec.given is None:
        return
    for name in ("target", "task", "features", "sensitive", "split", "background"):
        if name in spec.model_fields_set and getattr(spec, name) != ImportSpec.model_fields[name].get_default():
            yield Fault(pointer(name), "nothing beside given: it says so itself", "a value")
    yield from _faults_of_given(spec.given, spec)


def _faults_of_given(given: GivenSpec, spec: ImportSpec) -> Iterator[Fault]:
    faults: list[Fault] = []
    for i, feature in enumerate(given.features):
        if len(feature.shape) != len(_AXES.get(feature.kind, ())):
            shape = f"[{', '.join(_AXES.get(feature.kind, ()))}] of a {feature.kind} feature"
            faults.append(Fault(pointer("given", "features", i, "shape"), shape, describe(list(feature.shape))))
        if feature.kind == "image" and feature.value_range is None:
            faults.append(Fault(pointer("given", "features", i, "value_range"), "the scale of the image", "null"))
        if feature.kind in _AXES and len(given.features) > 1:
            received = f"a feature of kind {feature.kind} among others"
            faults.append(Fault(pointer("given", "features", i), "one image or series alone, or columns", received))
    names = [feature.name for feature in given.features]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        faults.append(Fault("#/given/features", "each name once", f"{', '.join(repeated)} more than once"))
    if (given.task == "classification") != (len(set(given.labels)) >= 2) or len(set(given.labels)) < len(given.labels):
        expected = "at least two labels, each once" if given.task == "classification" else "none for a regression"
        faults.append(Fault("#/given/labels", expected, describe(list(given.labels))))
    if len(given.inputs) != len(given.truth):
        faults.append(Fault("#/given/truth", f"one for each of {len(given.inputs)} inputs", f"{len(given.truth)}"))
    for name in ("min", "max"):
        if getattr(spec.gates, name) and not given.inputs:
            faults.append(Fault(pointer("gates", name), "inputs and truth, by which gates are decided", "none"))
    for name in GatesSpec.model_fields.keys() - {"min", "max"}:
        if getattr(spec.gates, name) is not None:
            faults.append(Fault(pointer("gates", name), "null: it is decided on a dataset", "a gate"))
    if sum(map(len, (spec.gates.min, spec.gates.max))):
        faults += gate_misfits(spec.gates, DataFacts(given.task, given.target, {}, given.labels), ())
    yield from faults
    if faults:
        return
    for name in ("background", "inputs"):
        try:
            decode_rows(getattr(given, name), spec.given_signature())
        except InvalidRows as error:
            for fault in error.faults:
                place = fault.pointer.replace("#/inputs", f"#/given/{name}", 1)
                yield Fault(place, fault.expected, fault.received, fault.detail)
            return
    for i, truth in enumerate(given.truth):
        if given.task == "classification" and truth not in given.labels:
            yield Fault(pointer("given", "truth", i), f"one of {', '.join(given.labels)}", describe(truth))
        elif given.task == "regression" and (not isinstance(truth, int | float) or isinstance(truth, bool)):
            yield Fault(pointer("given", "truth", i), "a number", describe(truth))
    if spec.positive_label is not None and (len(given.labels) != 2 or spec.positive_label not in given.labels):
        yield Fault("#/positive_label", "one of two labels", describe(spec.positive_label))
