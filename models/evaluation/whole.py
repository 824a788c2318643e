"""The whole evaluation of a version on its untouched test part, as its card holds it. Each part has a cap on rows, so
that the time for all of them is bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets import Dataset, Split
from models.evaluation.baselines import (
    Baseline,
    compared,
    constant_baseline,
    gradient_boosting,
    main_metric,
    place_in_words,
)
from models.evaluation.bootstrap import LEVEL, RESAMPLES, Distribution, Resampling, rounded
from models.evaluation.calibration import MAX_ROWS as MAX_CALIBRATION_ROWS
from models.evaluation.calibration import expected_when_calibrated, probabilities_at, reliability_curve
from models.evaluation.figures import evaluate
from models.evaluation.groups import groups_of
from models.evaluation.residuals import residual_summary
from models.evaluation.robustness import Scale, robustness
from models.evaluation.slices import MAX_ROWS as MAX_SLICE_ROWS
from models.evaluation.slices import fairness_warnings, slice_by
from models.evaluation.surrogate import fit_surrogate
from models.evaluation.weighted import weighted_metrics
from models.outputs import target_columns
from models.rows import ModelInput

PARTS = ("metrics", "calibration", "slices", "baselines", "surrogate", "robustness")
MAX_RESAMPLED_ROWS, LEAST_RESAMPLED_ROWS = 10_000, 1_000
FEW_TEST_ROWS = 30
MUCH_LOST = 0.1
"""Accuracy lost to a small step that is worth a warning, and the size of that step."""
SMALL_STEP = 0.05


@dataclass(frozen=True)
class Asked:
    """What a specification asks of an evaluation.

    Attributes:
        sensitive: raw values `(n_rows,)` of the whole data set, by the column's name.
        temperature: fitted on the validation part; None for a regression.
        tempered: whether the model's logits are already divided by it.
    """

    positive_label: str | None
    seed: int
    sensitive: Mapping[str, NDArray[Any]]
    temperature: float | None = None
    tempered: bool = False


def evaluate_version(
    model: Any,
    dataset: Dataset,
    split: Split,
    asked: Asked,
    predict: Callable[[Any, ModelInput], Any],
    report: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluates a fitted model on the test part.

    Args:
        model: the Keras model in raw units, as it is served.
        predict: from a model and rows to the units of its outputs.
        report: told of each part before it begins: its name, its place from 0, and how many there are.

    Returns:
        The card's `evaluation` and its `surrogate`.
    """
    signature, rows = dataset.signature, {"train": split.train, "validation": split.validation, "test": split.test}
    parts = {name: dataset.inputs[indices] for name, indices in rows.items()}
    truth = dataset.targets[split.test]
    outputs = target_columns(predict(model, parts["test"]), signature, signature.outputs[0])

    report(PARTS[0], 0, len(PARTS))
    document = evaluate(outputs, truth, signature, asked.positive_label)
    warnings = []
    if len(truth) < FEW_TEST_ROWS:
        warnings.append(f"The test part has {len(truth)} row{'s'[: len(truth) != 1]}: its figures say little.")
    warnings += [f"{name} is not defined: {reason}." for name, reason in document["undefined"].items()]
    sampled = _sampled_rows(len(truth), len(signature.labels), asked.seed)
    strata = truth[sampled] if signature.task == "classification" else None
    resampling = Resampling.draw(len(sampled), strata=strata, seed=asked.seed)

    def distribution(values: NDArray[Any]) -> Distribution:
        found = Distribution.of(
            weighted_metrics(values[sampled], truth[sampled], signature, asked.positive_label), resampling
        )
        if len(sampled) == len(truth):
            return found
        whole = weighted_metrics(values, truth, signature, asked.positive_label)(np.ones((1, len(truth))))
        return found.of_all({name: float(each[0]) for name, each in whole.items()}, len(truth), len(sampled))

    own = distribution(outputs)
    document["intervals"] = {name: rounded(own.interval(name)) for name in own.whole}
    document["resampling"] = {
        "method": "BCa bootstrap",
        "level": LEVEL,
        "resamples": RESAMPLES,
        "rows": len(sampled),
        "stratified": resampling.stratified,
        "seed": asked.seed,
    }

    report(PARTS[1], 1, len(PARTS))
    if signature.task == "regression":
        document["residuals"] = residual_summary(outputs[:, 0], truth)
    else:
        document["calibration"] = _calibration(model, parts["test"], outputs, truth, dataset, asked, predict)
        warnings += _calibration_warnings(document["calibration"])

    report(PARTS[2], 2, len(PARTS))
    if asked.sensitive:
        chosen = _sample(len(truth), MAX_SLICE_ROWS, asked.seed)
        document["slices"] = {}
        for name, values in asked.sensitive.items():
            groups = groups_of(values, split.train, split.test[chosen])
            found = slice_by(groups, outputs[chosen], truth[chosen], signature, asked.positive_label, asked.seed)
            document["slices"][name] = found
            warnings += fairness_warnings(name, found)

    report(PARTS[3], 3, len(PARTS))
    seen = np.concatenate([split.train, split.validation])
    metric = main_metric(signature)
    document["baselines"] = {}
    for baseline in (
        gradient_boosting(dataset.inputs[seen], dataset.targets[seen], parts["test"], signature, asked.seed),
        constant_baseline(dataset.targets[split.train], len(truth), signature),
    ):
        found = _baseline(baseline, truth, dataset, own, distribution, asked)
        document["baselines"][baseline.name] = found
        if "differences" in found:
            other = found["metrics"][metric]
            line = found["differences"][metric]
            warning = place_in_words(metric, document["metrics"][metric], baseline, other, line)
            warnings += [warning] if warning else []

    report(PARTS[4], 4, len(PARTS))
    said = {
        name: target_columns(predict(model, each), signature, signature.outputs[0]) if name != "test" else outputs
        for name, each in parts.items()
    }
    surrogate = fit_surrogate(parts, said, signature, asked.seed)

    report(PARTS[5], 5, len(PARTS))
    document["robustness"] = robustness(
        model,
        parts["test"],
        truth,
        signature,
        Scale.of(signature, parts["train"]),
        lambda moved: predict(model, moved),
        asked.seed,
    )
    warnings += _robustness_warnings(document["robustness"])
    return document | {"warnings": warnings}, surrogate


def _sampled_rows(n_rows: int, n_labels: int, seed: int) -> NDArray[np.int64]:
    """The test rows that are resampled: with many labels, fewer, since each has a ranking of its own."""
    most = max(LEAST_RESAMPLED_ROWS, min(MAX_RESAMPLED_ROWS, 4 * MAX_RESAMPLED_ROWS // max(n_labels, 1)))
    return _sample(n_rows, most, seed)


def _sample(n_rows: int, most: int, seed: int) -> NDArray[np.int64]:
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def _calibration(
    model: Any,
    inputs: ModelInput,
    outputs: NDArray[Any],
    truth: NDArray[Any],
    dataset: Dataset,
    asked: Asked,
    predict: Callable[[Any, ModelInput], Any],
) -> dict[str, Any]:
    import keras

    signature = dataset.signature
    assert asked.temperature is not None
    logits = predict(keras.Model(model.input, model.get_layer("logit").output), inputs).astype(np.float64)
    if asked.tempered:
        logits = logits * asked.temperature

    def figures(temperature: float) -> dict[str, Any]:
        found = evaluate(probabilities_at(logits, temperature), truth, signature, asked.positive_label)["metrics"]
        return {name: found[name] for name in ("expected_calibration_error", "log_loss", "brier")}

    raw, calibrated = figures(1.0), figures(asked.temperature)
    served = calibrated if asked.tempered else raw
    chosen = _sample(len(truth), MAX_CALIBRATION_ROWS, asked.seed)
    predicted = outputs.argmax(axis=1)
    largest = outputs[np.arange(len(outputs)), predicted]
    curves = {"predicted label": reliability_curve(largest, predicted == truth)}
    if asked.positive_label is not None:
        place = signature.labels.index(asked.positive_label)
        curves[asked.positive_label] = reliability_curve(outputs[:, place], truth == place)
    observed = float(served["expected_calibration_error"])
    return {
        "temperature": asked.temperature,
        "applied": asked.tempered,
        "raw": raw,
        "calibrated": calibrated,
        "expected_when_calibrated": expected_when_calibrated(largest[chosen], observed, asked.seed),
        "reliability": curves,
    }


def _calibration_warnings(calibration: dict[str, Any]) -> list[str]:
    expected = calibration["expected_when_calibrated"]
    if expected["p_value"] >= 0.05:
        return []
    served, other = ("calibrated", "raw") if calibration["applied"] else ("raw", "calibrated")
    error = calibration[served]["expected_calibration_error"]
    words = (
        f"Probabilities do not come true: calibration error {error:.3f}, and at most "
        f"{expected['percentile_95']:.3f} where they do."
    )
    after = calibration[other]["expected_calibration_error"]
    if not calibration["applied"] and after < error:
        words += f' "training": {{"calibration": "temperature"}} would make it {after:.3f}.'
    return [words]


def _baseline(
    baseline: Baseline,
    truth: NDArray[Any],
    dataset: Dataset,
    own: Distribution,
    distribution: Callable[[NDArray[Any]], Distribution],
    asked: Asked,
) -> dict[str, Any]:
    if baseline.outputs is None:
        return {"description": baseline.description, "metrics": None, "reason": baseline.reason}
    signature = dataset.signature
    found = distribution(baseline.outputs)
    metrics = evaluate(baseline.outputs, truth, signature, asked.positive_label)["metrics"]
    return {
        "description": baseline.description,
        "learned_rows": baseline.rows,
        "metrics": metrics,
        "intervals": {name: rounded(found.interval(name)) for name in metrics},
        "differences": compared(own, found, signature.task),
    }


def _robustness_warnings(document: dict[str, Any]) -> list[str]:
    attacks = document["attacks"]
    if attacks is None or document["metric"] != "accuracy":
        return []
    moved = next(line["accuracy"] for line in attacks["pgd"] if line["size"] == SMALL_STEP)
    if attacks["unmoved"] - moved < MUCH_LOST:
        return []
    return [
        f"Steps of {SMALL_STEP:g} {document['unit']} against the truth bring accuracy from {attacks['unmoved']:.3f} to "
        f"{moved:.3f} (PGD, {attacks['rows']} rows)."
    ]
