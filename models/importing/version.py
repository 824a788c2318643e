"""Builds a version from a user's `.keras` file: made to fit, evaluated where there is truth, exported, written."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import orjson
from numpy.typing import NDArray

from models.building import (
    Exported,
    Reporter,
    VersionRows,
    asked_of_evaluation,
    choose_background,
    judge_version,
    write_version,
)
from models.changes import Change, Predecessor, changes_between, refuse_breaking
from models.datasets import split_dataset
from models.evaluation import evaluate
from models.evaluation.whole import evaluate_version
from models.gates.gate import Champion
from models.gates.limits import judge_limits
from models.importing.process import LIMIT_SECONDS, import_model
from models.loading import describe_loaded, load_data
from models.outputs import target_columns
from models.rows import ModelInput, decode_rows
from models.signature import Signature
from models.sources.folder import DataFolder
from models.spec.importing import GivenSpec, ImportSpec
from models.spec.whole import builtin_facts
from models.training import predict_raw


@dataclass(frozen=True)
class Around:
    """What a version is built beside: files of data, the champion, and the version that a gate compares with."""

    data: DataFolder | None = None
    before: Predecessor | None = None
    champion_now: Callable[[], Champion | None] = lambda: None


def import_version(
    spec: ImportSpec,
    file: Path,
    directory: Path,
    reporter: Reporter,
    around: Around | None = None,
    *,
    limit_seconds: float = LIMIT_SECONDS,
) -> dict[str, Any]:
    """Imports and writes one version; returns its card.

    With a data set, the version is evaluated and gated as one that was fitted here. Whether the model has learned from
    the rows of the test part, nobody can tell from the file: the card says so.

    Args:
        file: the `.keras` file that the specification names.
        around: None for built-in data and a model without a champion.

    Raises:
        InvalidSpec: when the signature is not the champion's, and may not change.
        UnsafeModelFile, ModelDoesNotFit: when the file cannot be used.
        DiskFull: when the version cannot be written.
    """
    reporter.step("loading")
    around = around or Around()

    def load(signature: Signature, rows: ModelInput) -> tuple[Any, list[str]]:
        with tempfile.TemporaryDirectory(prefix="vitrine-import-") as folder:
            imported = import_model(file, signature, spec.outputs, rows, Path(folder), limit_seconds=limit_seconds)
            return keras.saving.load_model(imported.path, compile=False, safe_mode=True), list(imported.notes)

    build = _with_given_rows if spec.dataset is None else _with_dataset
    return build(spec, directory, reporter, around, load)


Load = Callable[[Signature, ModelInput], tuple[Any, list[str]]]
"""The model of the file, wired to a signature and run on rows, and what there is to say of it."""


def _with_dataset(spec: ImportSpec, directory: Path, reporter: Reporter, around: Around, load: Load) -> dict[str, Any]:
    facts_of = around.data.facts_of if around.data else builtin_facts
    training = spec.as_training(facts_of)
    loaded = load_data(training, around.data)
    dataset = loaded.dataset
    changes = _changes(spec, dataset.signature, around.before)
    split = split_dataset(dataset, test=training.split.test, validation=training.split.validation, by=training.split.by)
    background = choose_background(dataset, split, training.background.rows, spec.seed)
    rows = np.concatenate([background[0], dataset.inputs[split.test]])
    model, notes = load(dataset.signature, rows)
    reporter.step("evaluating")
    asked = asked_of_evaluation(training, dataset, split, model)
    evaluation, surrogate = evaluate_version(model, dataset, split, asked, predict_raw, reporter.evaluation)
    reporter.step("explaining")

    def judged(exported: Exported) -> dict[str, Any]:
        champion = around.champion_now
        return judge_version(training, dataset, split, model, evaluation, background, champion, exported, reporter)

    note = "Imported: whether it has learned from the rows of the test part is not known."
    card = {
        "model": spec.model,
        "data": describe_loaded(training, loaded, split, changes, around.before),
        # Of what a fit is asked to do, all that is true of an import.
        "spec": training.model_dump(
            mode="json",
            by_alias=True,
            exclude={"architecture", "preprocessing", "regularization", "training", "search"},
        ),
        "evaluation": evaluation,
        "surrogate": surrogate,
        "background": {"rows": len(background[0]), "kind": training.background.kind, "seed": spec.seed},
        **_described(spec, model, [*notes, note]),
    }
    return write_version(
        directory,
        model,
        dataset.signature,
        VersionRows(*background, dataset.inputs[split.validation]),
        card,
        seed=spec.seed,
        fence=reporter.fence,
        judged=judged,
    )


def _with_given_rows(
    spec: ImportSpec, directory: Path, reporter: Reporter, around: Around, load: Load
) -> dict[str, Any]:
    assert spec.given is not None
    given, signature = spec.given, spec.given_signature()
    _changes(spec, signature, around.before)
    background, tested = decode_rows(given.background, signature), decode_rows(given.inputs, signature)
    model, notes = load(signature, np.concatenate([background, tested]))
    reporter.step("evaluating")
    evaluation: dict[str, Any] = {"rows": 0, "metrics": {}}
    if len(tested):
        outputs = target_columns(predict_raw(model, tested), signature, signature.outputs[0])
        positive = spec.positive_label or (given.labels[1] if len(given.labels) == 2 else None)
        evaluation = evaluate(outputs, _truth(given), signature, positive)
    else:
        notes = [*notes, "Imported without rows of known truth: how well it predicts was not measured."]
    reporter.step("explaining")
    content = orjson.dumps([given.background, given.inputs, given.truth])
    card = {
        "model": spec.model,
        "data": {"dataset": None, "sha256": hashlib.sha256(content).hexdigest(), "rows": {"test": len(tested)}},
        "spec": {"dataset": None, **spec.model_dump(mode="json", include={"model", "gates", "promote"})},
        "evaluation": evaluation,
        "gates": list(judge_limits(spec.gates, evaluation)),
        "background": {"rows": len(background), "kind": "given", "seed": spec.seed},
        **_described(spec, model, notes),
    }
    weights = np.full(len(background), 1.0 / len(background))
    rows = VersionRows(background, weights, tested if len(tested) else background)
    return write_version(directory, model, signature, rows, card, seed=spec.seed, fence=reporter.fence)


def _changes(spec: ImportSpec, signature: Signature, before: Predecessor | None) -> tuple[Change, ...]:
    """What differs from the champion's signature. Raises `InvalidSpec` where clients would notice, and it may not."""
    changes = changes_between(before.signature, signature) if before else ()
    if before and spec.signature == "same":
        refuse_breaking(changes, before.version)
    return changes


def _truth(given: GivenSpec) -> NDArray[Any]:
    if given.task == "classification":
        return np.array([given.labels.index(each) for each in given.truth], dtype=np.int64)
    return np.array(given.truth, dtype=np.float32)


def _described(spec: ImportSpec, model: Any, notes: list[str]) -> dict[str, Any]:
    return {
        "imported": {"file_sha256": spec.file, "outputs": spec.outputs},
        "training": {"parameters": model.count_params(), "curves": {}, "warnings": notes},
    }
