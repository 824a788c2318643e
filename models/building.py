"""Builds a version from a specification: load, fit, evaluate, choose a background, export, write."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models import artifact
from models.builtins import read_builtin
from models.changes import Champion, Change, changes_between, refuse_breaking
from models.datasets import Dataset, Split, load_builtin, split_dataset
from models.evaluation import evaluate
from models.export import export_onnx, hybrid_rows
from models.outputs import target_columns, target_model
from models.raw import RawData
from models.rows import ModelInput
from models.signature import Signature
from models.sources.folder import DataFolder
from models.sources.profile import Profile
from models.sources.report import describe_data, describe_profile, shared_rows
from models.spec import TrainingSpec
from models.tables import dataset_of
from models.training import EpochReport, FittedModel, fit, predict_raw

Step = Literal["loading", "fitting", "evaluating", "explaining", "registering", "gating"]
_LIBRARIES = ("vitrine", "keras", "tensorflow", "onnxruntime", "numpy", "scikit-learn", "shap")


@dataclass(frozen=True)
class Reporter:
    """Who is told how a build goes on. `fence` is asked before anything is put in place: it raises when another
    attempt has overtaken this one."""

    step: Callable[[Step], None] = lambda _: None
    epoch: Callable[[EpochReport], None] = lambda _: None
    fence: Callable[[], None] = lambda: None


def build_version(
    spec: TrainingSpec,
    directory: Path,
    reporter: Reporter,
    checkpoints: Path | None = None,
    *,
    data: DataFolder | None = None,
    champion: Champion | None = None,
) -> dict[str, Any]:
    """Trains and writes one version; returns its card.

    Args:
        data: where files are found; built-in data needs none.
        champion: what the signature is compared with.
        checkpoints: a folder that only the attempts of this build use; the next one resumes from it. The caller
            removes it when the version is in place.

    Raises:
        InvalidDataset: when the data and the specification do not fit.
        InvalidSpec: when the signature is not the champion's, and may not change.
        LossNotFinite: when the fit diverges.
        DiskFull: when the version cannot be written.
    """
    reporter.step("loading")
    loaded = load_data(spec, data)
    dataset = loaded.dataset
    changes = changes_between(champion.signature, dataset.signature) if champion else ()
    if champion and spec.signature == "same":
        refuse_breaking(changes, champion.version)
    split = split_dataset(dataset, test=spec.split.test, validation=spec.split.validation, by=spec.split.by)
    reporter.step("fitting")
    fitted = fit(spec, dataset, split, report=reporter.epoch, checkpoints=checkpoints, fence=reporter.fence)
    reporter.step("evaluating")
    signature = dataset.signature
    units = predict_raw(fitted.model, dataset.inputs[split.test])
    outputs = target_columns(units, signature, signature.outputs[0])
    evaluation = evaluate(outputs, dataset.targets[split.test], signature, spec.positive_label)
    reporter.step("explaining")
    background, weights = choose_background(dataset, split, spec.background.rows, spec.training.seed)
    with artifact.writing(directory, fence=reporter.fence, expected_bytes=_expected_bytes(fitted, background)) as aside:
        fitted.model.save(aside / artifact.KERAS)
        compared = np.concatenate(
            [
                background,
                dataset.inputs[split.validation],
                hybrid_rows(dataset.inputs[split.validation], background, 1000, spec.training.seed),
            ]
        )
        export = export_onnx(fitted.model, signature, aside / artifact.ONNX, compared, background=background)
        artifact.write_json(aside / artifact.SIGNATURE, signature.to_json())
        artifact.write_background(aside, signature, background, weights)
        card = {
            "model": spec.model,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "task": signature.task,
            "data": _describe_data(spec, loaded, split, changes, champion),
            "spec": spec.model_dump(mode="json"),
            "evaluation": evaluation,
            "gates": check_gates(spec, evaluation["metrics"]),
            "training": _describe_training(fitted),
            "background": {"rows": len(background), "kind": spec.background.kind, "seed": spec.training.seed},
            "spread": _spread(fitted, signature, background, weights),
            "export": export.to_json(),
            "batch_invariant": export.batch_invariance.invariant,
            "library_versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        }
        artifact.write_json(aside / artifact.CARD, card)
    return card


@dataclass(frozen=True, slots=True)
class LoadedData:
    """A data set, the raw columns that it was made from, and the profile of their file (None for built-in data)."""

    dataset: Dataset
    raw: RawData
    profile: Profile | None


def load_data(spec: TrainingSpec, data: DataFolder | None = None) -> LoadedData:
    """The data that a filled-in specification names, without its ignored columns.

    Args:
        data: where files are found; built-in data needs none.
    """
    if spec.dataset.builtin is not None:
        ignored = [name for name, kind in spec.features.items() if kind == "ignore"]
        return LoadedData(load_builtin(spec.dataset.builtin, ignored), read_builtin(spec.dataset.builtin), None)
    assert data is not None  # parse_spec has found the file there
    raw, facts = data.read(spec)
    return LoadedData(dataset_of(raw, facts, spec.split, spec.preprocessing), raw, data.profile(spec.dataset))


def load_dataset(spec: TrainingSpec, data: DataFolder | None = None) -> Dataset:
    """The data set alone; see `load_data`."""
    return load_data(spec, data).dataset


def choose_background(dataset: Dataset, split: Split, rows: int, seed: int) -> tuple[ModelInput, NDArray[np.float64]]:
    """A random sample of the train part, equally weighted: `(n_background, ...)` and weights that sum to 1."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(split.train, size=min(rows, len(split.train)), replace=False))
    return dataset.inputs[chosen], np.full(len(chosen), 1.0 / len(chosen))


def _expected_bytes(fitted: FittedModel, background: ModelInput) -> int:
    """About what a version takes: the weights twice (Keras, ONNX), the optimizer's state, the background, the rest."""
    optimizer = getattr(fitted.model, "optimizer", None)
    stored = [*fitted.model.variables, *fitted.model.weights, *(optimizer.variables if optimizer else ())]
    return sum(4 * math.prod(variable.shape) for variable in stored) + background.nbytes + 50_000


def check_gates(spec: TrainingSpec, metrics: dict[str, float]) -> list[dict[str, Any]]:
    """The gates of a specification as decisions with their figures."""
    return [
        {"gate": name, "passed": metrics[name] >= limit, "value": metrics[name], "limit": limit}
        for name, limit in spec.gates.min.items()
    ]


def _spread(
    fitted: FittedModel, signature: Signature, background: ModelInput, weights: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """The standard deviation of each output of each target over the background."""
    spreads = {}
    for output in signature.outputs:
        values = predict_raw(target_model(fitted.model, signature, output), background).astype(np.float64)
        deviations = np.sqrt(weights @ (values - weights @ values) ** 2)
        spreads[output] = dict(zip(signature.targets, deviations.tolist(), strict=True))
    return spreads


def _describe_data(
    spec: TrainingSpec, loaded: LoadedData, split: Split, changes: Sequence[Change], champion: Champion | None
) -> dict[str, Any]:
    dataset, raw = loaded.dataset, loaded.raw
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    ignored = {name for name in raw.columns if name in dataset.signature.ignored}
    judged = replace(raw, columns={name: column for name, column in raw.columns.items() if name not in ignored})
    described = {
        **(describe_profile(loaded.profile) if loaded.profile else {}),
        "by_target": describe_data(judged, dataset.signature.target, seed=spec.training.seed),
        "rows_like_train_rows": shared_rows(dataset.inputs, parts),
    }
    return {
        "dataset": spec.dataset.model_dump(),
        "sha256": dataset.sha256,
        "file_sha256": raw.digest,
        "rows": {name: len(indices) for name, indices in parts.items()},
        "report": described,
        "changes": {
            "champion": champion.version if champion else None,
            "changes": [change.to_json() for change in changes],
        },
    }


def _describe_training(fitted: FittedModel) -> dict[str, Any]:
    return {
        "parameters": fitted.model.count_params(),
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history["loss"]),
        "seconds": round(fitted.seconds, 3),
        "curves": fitted.history,
        "warnings": list(fitted.warnings),
    }
