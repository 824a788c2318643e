"""Builds a version from a specification: load, fit, evaluate, choose a background, export, judge, write."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from explain.gradients import KerasGradient, compute_device, fitting_slice_rows
from explain.paths import Gradient
from models import artifact
from models.changes import Predecessor, changes_between, refuse_breaking
from models.datasets import Dataset, Split, split_dataset
from models.diagnosis import EpochStatistics
from models.differences import hybrid_rows
from models.evaluation import evaluate
from models.evaluation.temper import temper, temperature_of
from models.evaluation.whole import Asked, evaluate_version
from models.export import export_onnx
from models.folds import Metrics, cross_validate
from models.gates.gate import Candidate, Champion
from models.gates.judging import judge
from models.gradient_export import GradientReport, export_gradients, exported_gradient
from models.inference import keras_outputs, open_session, session_outputs
from models.loading import describe_loaded, load_data
from models.outputs import target_columns, target_model
from models.rows import ModelInput
from models.signature import Signature
from models.sources.folder import DataFolder
from models.spec import TrainingSpec
from models.training import EpochReport, FittedModel, fit, predict_raw

Step = Literal["searching", "loading", "fitting", "evaluating", "explaining", "registering", "gating"]
_LIBRARIES = ("vitrine", "keras", "tensorflow", "onnxruntime", "numpy", "scikit-learn", "shap")


@dataclass(frozen=True)
class Reporter:
    """Who is told how a build goes on.

    `evaluation` is told the part that begins, its place and their number. `fence` is asked before anything is put in
    place: it raises when another attempt has overtaken this one.
    """

    step: Callable[[Step], None] = lambda _: None
    epoch: Callable[[EpochReport], None] = lambda _: None
    fence: Callable[[], None] = lambda: None
    evaluation: Callable[[str, int, int], None] = lambda *_: None
    gate: Callable[[str, int, int], None] = lambda *_: None


def build_version(
    spec: TrainingSpec,
    directory: Path,
    reporter: Reporter,
    checkpoints: Path | None = None,
    *,
    data: DataFolder | None = None,
    before: Predecessor | None = None,
    champion_now: Callable[[], Champion | None] = lambda: None,
    earlier: artifact.Artifact | None = None,
    search: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains and writes one version; returns its card.

    Args:
        checkpoints: a folder that only the attempts of this build use; the next one resumes from it. The caller
            removes it when the version is in place.
        data: where files are found; built-in data needs none.
        before: the champion, whose signature the data is compared with.
        champion_now: gives the version that a gate compares with, when it comes to that.
        earlier: the version whose weights the fit begins with.
        search: the account of the search that has found the specification, for the card.

    Raises:
        InvalidDataset: when the data and the specification do not fit.
        InvalidSpec: when the signature is not the champion's, and may not change.
        LossNotFinite: when the fit diverges.
        DiskFull: when the version cannot be written.
    """
    reporter.step("loading")
    loaded = load_data(spec, data)
    dataset = loaded.dataset
    changes = changes_between(before.signature, dataset.signature) if before else ()
    if before and spec.signature == "same":
        refuse_breaking(changes, before.version)
    split = split_dataset(dataset, test=spec.split.test, validation=spec.split.validation, by=spec.split.by)
    reporter.step("fitting")
    fitted = fit(
        spec, dataset, split, report=reporter.epoch, checkpoints=checkpoints, fence=reporter.fence, earlier=earlier
    )
    folds = _cross_validate(spec, dataset, split, reporter, checkpoints) if spec.training.folds else None
    reporter.step("evaluating")
    signature = dataset.signature
    asked = asked_of_evaluation(spec, dataset, split, fitted.model)
    evaluation, surrogate = evaluate_version(fitted.model, dataset, split, asked, predict_raw, reporter.evaluation)
    reporter.step("explaining")
    background, weights = choose_background(dataset, split, spec.background.rows, spec.training.seed)

    def judged(exported: Exported) -> dict[str, Any]:
        rows = (background, weights)
        return judge_version(spec, dataset, split, fitted.model, evaluation, rows, champion_now, exported, reporter)

    return write_version(
        directory,
        fitted.model,
        signature,
        VersionRows(background, weights, dataset.inputs[split.validation]),
        {
            "model": spec.model,
            "data": describe_loaded(spec, loaded, split, changes, before),
            "spec": spec.model_dump(mode="json"),
            "search": search,
            "evaluation": evaluation,
            "surrogate": surrogate,
            "training": {
                **_describe_training(fitted),
                "folds": folds,
                "warm_start": _describe_start(spec, earlier),
            },
            "background": {"rows": len(background), "kind": spec.background.kind, "seed": spec.training.seed},
        },
        seed=spec.training.seed,
        fence=reporter.fence,
        judged=judged,
    )


def judge_version(
    spec: TrainingSpec,
    dataset: Dataset,
    split: Split,
    model: Any,
    evaluation: dict[str, Any],
    background: tuple[ModelInput, NDArray[np.float64]],
    champion_now: Callable[[], Champion | None],
    exported: Exported,
    reporter: Reporter,
) -> dict[str, Any]:
    """The gates of a specification, and the report on explanations, of a version that is written, but not in place."""
    signature = dataset.signature
    outputs = target_columns(predict_raw(model, dataset.inputs[split.test]), signature, signature.outputs[0])
    candidate = Candidate(
        spec,
        dataset,
        split,
        outputs,
        evaluation,
        _engine(model, signature, exported.aside),
        lambda: _gradient(model, signature, exported),
        background,
    )
    judgement = judge(candidate, champion_now, reporter.gate)
    return {"gates": judgement.gates, "fidelity": judgement.fidelity}


@dataclass(frozen=True)
class VersionRows:
    """`background` `(n_background, *input_shape)` with its `weights`; with `others` the export is compared too."""

    background: ModelInput
    weights: NDArray[np.float64]
    others: ModelInput


@dataclass(frozen=True)
class Exported:
    """A version whose model and exports are written, but not yet in place: the folder, and the report on gradients."""

    aside: Path
    gradient: GradientReport


def write_version(
    directory: Path,
    model: Any,
    signature: Signature,
    rows: VersionRows,
    card: dict[str, Any],
    *,
    seed: int,
    fence: Callable[[], None] = lambda: None,
    judged: Callable[[Exported], dict[str, Any]] = lambda _: {},
) -> dict[str, Any]:
    """Writes a version whose model is there; returns its card, to which what is measured here is added.

    Args:
        model: in raw units, with the layers `output` and, for a classification, `logit`.
        seed: of the rows that are mixed from others to compare the export on.
        fence: called before the version is put in place.
        judged: what gates say, for the card, of what is written so far.

    Raises:
        DiskFull: when it cannot be written.
    """
    background, weights = rows.background, rows.weights
    with artifact.writing(directory, fence=fence, expected_bytes=_expected_bytes(model, background)) as aside:
        model.save(aside / artifact.KERAS)
        compared = np.concatenate([background, rows.others, hybrid_rows(rows.others, background, 1000, seed)])
        export = export_onnx(model, signature, aside / artifact.ONNX, compared, background=background)
        gradient = export_gradients(model, signature, aside, compared, background=background)
        artifact.write_json(aside / artifact.SIGNATURE, signature.to_json())
        artifact.write_background(aside, signature, background, weights)
        card = {
            **card,
            **judged(Exported(aside, gradient)),
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "task": signature.task,
            "spread": _spread(model, signature, background, weights),
            "export": export.to_json(),
            "gradient": gradient.to_json(),
            "batch_invariant": export.batch_invariance.invariant,
            "library_versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        }
        artifact.write_json(aside / artifact.CARD, card)
    return card


def _cross_validate(
    spec: TrainingSpec, dataset: Dataset, split: Split, reporter: Reporter, checkpoints: Path | None
) -> dict[str, Any]:
    signature = dataset.signature

    def measure(fitted: FittedModel, rows: NDArray[np.int64]) -> Metrics:
        outputs = target_columns(predict_raw(fitted.model, dataset.inputs[rows]), signature, signature.outputs[0])
        return evaluate(outputs, dataset.targets[rows], signature, spec.positive_label)["metrics"]

    return cross_validate(
        spec, dataset, split, measure, report=reporter.epoch, checkpoints=checkpoints, fence=reporter.fence
    )


def choose_background(dataset: Dataset, split: Split, rows: int, seed: int) -> tuple[ModelInput, NDArray[np.float64]]:
    """A random sample of the train part, equally weighted: `(n_background, ...)` and weights that sum to 1."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(split.train, size=min(rows, len(split.train)), replace=False))
    return dataset.inputs[chosen], np.full(len(chosen), 1.0 / len(chosen))


def _expected_bytes(model: Any, background: ModelInput) -> int:
    """About what a version takes: the weights six times (Keras, ONNX, forth and back for the gradients of two outputs),
    the optimizer's state, the background, the rest."""
    optimizer = getattr(model, "optimizer", None)
    stored = [*model.variables, *5 * model.weights, *(optimizer.variables if optimizer else ())]
    return sum(4 * math.prod(variable.shape) for variable in stored) + background.nbytes + 50_000


def asked_of_evaluation(spec: TrainingSpec, dataset: Dataset, split: Split, model: Any) -> Asked:
    """What the evaluation needs to know; a temperature that is asked for is built into the model first."""
    temperature, tempered = None, spec.training.calibration == "temperature"
    if dataset.signature.task == "classification":
        rows = split.validation
        temperature = temperature_of(model, dataset.inputs[rows], dataset.targets[rows], predict_raw)
        if tempered:
            temper(model, temperature)
    sensitive = {name: dataset.columns[name] for name in spec.sensitive}
    return Asked(spec.positive_label, spec.training.seed, sensitive, temperature, tempered)


def _engine(model: Any, signature: Signature, aside: Path) -> Callable[[ModelInput], NDArray[Any]]:
    """What will compute the default output of a version that is being written."""
    path = aside / artifact.ONNX
    if not path.exists():
        return keras_outputs(model, signature)[signature.outputs[0]]
    return session_outputs(open_session(path.read_bytes(), threads=1), signature)[signature.outputs[0]]


def _gradient(model: Any, signature: Signature, exported: Exported) -> Gradient:
    """What will take the gradients of the default output of a version that is being written."""
    output = signature.outputs[0]
    path = exported.aside / artifact.GRADIENT.format(output=output)
    if path.exists() and compute_device() == "cpu":
        return exported_gradient(path, signature, output, exported.gradient.to_json(), threads=1)
    network = target_model(model, signature, output)
    return KerasGradient(network, fitting_slice_rows(network))


def _spread(
    model: Any, signature: Signature, background: ModelInput, weights: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """The standard deviation of each output of each target over the background."""
    spreads = {}
    for output in signature.outputs:
        values = predict_raw(target_model(model, signature, output), background).astype(np.float64)
        deviations = np.sqrt(weights @ (values - weights @ values) ** 2)
        spreads[output] = dict(zip(signature.targets, deviations.tolist(), strict=True))
    return spreads


def _describe_start(spec: TrainingSpec, earlier: artifact.Artifact | None) -> dict[str, Any] | None:
    return {"version": spec.from_version, "model_sha256": earlier.hashes[artifact.KERAS]} if earlier else None


def _describe_training(fitted: FittedModel) -> dict[str, Any]:
    return {
        "parameters": fitted.model.count_params(),
        "device": fitted.device,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history["loss"]),
        "seconds": round(fitted.timing.seconds, 3),
        "curves": fitted.history,
        "epoch_seconds": fitted.timing.epoch_seconds,
        "peak_bytes": fitted.timing.peak_bytes,
        "layers": _describe_layers(fitted.statistics),
        "warnings": list(fitted.warnings),
    }


def _describe_layers(statistics: Sequence[EpochStatistics]) -> dict[str, Any]:
    """The epochs that were measured and, by layer and figure, its value after each; None where it was not finite."""
    figures: dict[str, dict[str, list[float | None]]] = {}
    for place, epoch in enumerate(statistics):
        for layer, values in epoch.layers.items():
            for name, value in values.items():
                held = figures.setdefault(layer, {}).setdefault(name, [None] * len(statistics))
                held[place] = value
    return {"epochs": [epoch.epoch for epoch in statistics], "figures": figures}
