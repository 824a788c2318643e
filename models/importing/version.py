"""Builds a version from a user's `.keras` file: made to fit, evaluated where there is truth, exported, written."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import orjson

from models.building import (
    Reporter,
    VersionRows,
    check_gates,
    choose_background,
    describe_data,
    load_dataset,
    write_version,
)
from models.datasets import split_dataset
from models.evaluation import evaluate
from models.importing.process import LIMIT_SECONDS, import_model
from models.outputs import target_columns
from models.rows import ModelInput, decode_rows
from models.signature import Signature
from models.spec.importing import ImportSpec
from models.training import predict_raw


@dataclass(frozen=True)
class _Around:
    """What an import has beside its file: signature, rows, truth for some of them, and what of it goes into the card.

    `tested` are `(n_tested, *input_shape)` with `truth` `(n_tested,)`; both may be empty.
    """

    signature: Signature
    rows: VersionRows
    tested: ModelInput
    truth: np.ndarray
    positive_label: str | None
    card: dict[str, Any]


def import_version(
    spec: ImportSpec, file: Path, directory: Path, reporter: Reporter, *, limit_seconds: float = LIMIT_SECONDS
) -> dict[str, Any]:
    """Imports and writes one version; returns its card.

    With a data set, the version is evaluated on its test part. Whether the model has learned from those rows, nobody
    can tell from the file: the card says so.

    Args:
        file: the `.keras` file that the specification names.

    Raises:
        UnsafeModelFile, ModelDoesNotFit: when the file cannot be used.
        DiskFull: when the version cannot be written.
    """
    reporter.step("loading")
    around = _around_dataset(spec) if spec.dataset is not None else _around_given(spec)
    rows = np.concatenate([around.rows.background, around.tested])
    with tempfile.TemporaryDirectory(prefix="vitrine-import-") as folder:
        imported = import_model(file, around.signature, spec.outputs, rows, Path(folder), limit_seconds=limit_seconds)
        model: Any = keras.saving.load_model(imported.path, compile=False, safe_mode=True)
    reporter.step("evaluating")
    evaluation: dict[str, Any] = {"rows": 0, "metrics": {}}
    if len(around.tested):
        signature = around.signature
        outputs = target_columns(predict_raw(model, around.tested), signature, signature.outputs[0])
        evaluation = evaluate(outputs, around.truth, signature, around.positive_label)
    reporter.step("explaining")
    return write_version(
        directory,
        model,
        around.signature,
        around.rows,
        {
            "model": spec.model,
            **around.card,
            "evaluation": evaluation,
            "gates": check_gates(spec, evaluation["metrics"]),
            "imported": {"file_sha256": spec.file, "outputs": spec.outputs},
            "training": {
                "parameters": model.count_params(),
                "curves": {},
                "warnings": [*imported.notes, *_notes_on(spec, evaluation["rows"])],
            },
        },
        seed=spec.seed,
        fence=reporter.fence,
    )


def _notes_on(spec: ImportSpec, n_tested: int) -> list[str]:
    if n_tested == 0:
        return ["Imported without rows of known truth: how well it predicts was not measured."]
    if spec.dataset is not None:
        return ["Imported: whether it has learned from the rows of the test part is not known."]
    return []


def _around_dataset(spec: ImportSpec) -> _Around:
    training = spec.as_training()
    dataset = load_dataset(training)
    split = split_dataset(dataset, test=training.split.test, validation=training.split.validation, by=training.split.by)
    background, weights = choose_background(dataset, split, training.background.rows, spec.seed)
    card = {
        "data": describe_data(training, dataset, split),
        # Of what a fit is asked to do, all that is true of an import.
        "spec": training.model_dump(
            mode="json", exclude={"architecture", "preprocessing", "regularization", "training"}
        ),
        "background": {"rows": len(background), "kind": training.background.kind, "seed": spec.seed},
    }
    return _Around(
        dataset.signature,
        VersionRows(background, weights, dataset.inputs[split.validation]),
        dataset.inputs[split.test],
        dataset.targets[split.test],
        training.positive_label,
        card,
    )


def _around_given(spec: ImportSpec) -> _Around:
    assert spec.given is not None
    given, signature = spec.given, spec.signature()
    background = decode_rows(given.background, signature)
    tested = decode_rows(given.inputs, signature)
    if given.task == "classification":
        truth = np.array([given.labels.index(each) for each in given.truth], dtype=np.int64)
    else:
        truth = np.array(given.truth, dtype=np.float32)
    positive = spec.positive_label or (given.labels[1] if len(given.labels) == 2 else None)
    content = orjson.dumps([given.background, given.inputs, given.truth])
    card = {
        "data": {"dataset": None, "sha256": hashlib.sha256(content).hexdigest(), "rows": {"test": len(tested)}},
        "spec": {"dataset": None, **spec.model_dump(mode="json", include={"model", "gates", "promote"})},
        "background": {"rows": len(background), "kind": "given", "seed": spec.seed},
    }
    weights = np.full(len(background), 1.0 / len(background))
    others = tested if len(tested) else background
    return _Around(signature, VersionRows(background, weights, others), tested, truth, positive, card)
