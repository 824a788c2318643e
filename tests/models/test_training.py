"""Fitting and evaluating: reproducible, the best epoch kept, metrics right, the target's own units."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from models.artifact import Artifact
from models.building import check_gates, choose_background
from models.datasets import Dataset, Split, load_builtin, split_dataset
from models.errors import InvalidDataset
from models.evaluation import evaluate
from models.outputs import target_columns
from models.signature import Feature, Signature
from models.spec import TrainingSpec, parse_spec
from models.training import EpochReport, FittedModel, fit, predict_raw

THREE = Signature((Feature("x", "numeric", (), (0.0, 1.0)),), "classification", "y", ("a", "b", "c"))
TWO = Signature((Feature("x", "numeric", (), (0.0, 1.0)),), "classification", "y", ("no", "yes"))


def test_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not() -> None:
    first, again, other = (fit_builtin("wine", epochs=2, seed=seed)[0].model.get_weights() for seed in (3, 3, 4))

    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_same_seed_gives_the_same_weights_of_convolutions() -> None:
    keys = {"architecture": {"type": "cnn", "layers": [4]}}
    first, again = (fit_builtin("digits", epochs=1, seed=3, **keys)[0].model.get_weights() for _ in range(2))

    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))


def test_early_stopping_keeps_the_weights_of_the_best_epoch() -> None:
    keys = {
        "architecture": {"type": "mlp", "layers": [64]},
        "regularization": {"dropout": 0.0, "l2": 0.0},
    }
    fitted, spec, dataset, split = fit_builtin(
        "diabetes", epochs=60, learning_rate=0.05, early_stopping={"patience": 3}, **keys
    )
    best = fitted.best_epoch
    to_the_best, *_ = fit_builtin("diabetes", epochs=best, learning_rate=0.05, early_stopping=None, **keys)

    assert int(np.argmin(fitted.history["val_loss"])) + 1 == best
    assert best + 3 == len(fitted.history["loss"]) < spec.training.epochs
    for kept, expected in zip(fitted.model.get_weights(), to_the_best.model.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, kept)
    outputs = predict_raw(fitted.model, dataset.inputs[split.validation])[:, 0]
    loss = np.mean(((outputs - dataset.targets[split.validation]) / dataset.targets[split.train].std()) ** 2)
    assert pytest.approx(min(fitted.history["val_loss"]), rel=1e-4) == loss


def test_without_early_stopping_every_epoch_is_run() -> None:
    fitted, *_ = fit_builtin("iris", epochs=4, learning_rate=0.5, early_stopping=None)

    assert 4 == len(fitted.history["loss"])


def test_every_epoch_is_reported_in_order() -> None:
    reports: list[EpochReport] = []

    fitted, *_ = fit_builtin("iris", epochs=3, reports=reports)

    assert [(1, 3), (2, 3), (3, 3)] == [(report.epoch, report.epochs) for report in reports]
    assert fitted.history["val_loss"] == [report.metrics["val_loss"] for report in reports]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} == set(reports[0].metrics)
    assert 0 == reports[-1].seconds_left <= reports[0].seconds_left


def test_regression_predicts_and_reports_in_the_units_of_the_target() -> None:
    fitted, _, dataset, split = fit_builtin(
        "diabetes", epochs=20, learning_rate=0.01, early_stopping=None, regularization={"dropout": 0.0, "l2": 0.0}
    )

    outputs = predict_raw(fitted.model, dataset.inputs[split.validation])[:, 0]

    truth = dataset.targets[split.validation]
    assert pytest.approx(truth.mean(), rel=0.15) == outputs.mean()
    assert metrics.r2_score(truth, outputs) > 0.2
    reported = fitted.history["val_mae"][fitted.best_epoch - 1]
    assert pytest.approx(metrics.mean_absolute_error(truth, outputs), rel=1e-4) == reported


def test_part_without_rows_is_refused() -> None:
    spec, dataset, split = prepared("iris", epochs=1)
    empty = Split(split.train, split.validation, split.test[:0])

    with pytest.raises(InvalidDataset, match="The test part has no rows: 150 rows"):
        fit(spec, dataset, empty)


def test_fit_that_diverges_is_refused_with_the_cure() -> None:
    with pytest.raises(InvalidDataset, match=r"lower training\.learning_rate"):
        fit_builtin("diabetes", epochs=3, learning_rate=1e30, optimizer="sgd")


def test_classification_metrics_by_hand() -> None:
    """Truth a a a b b c, predicted a a b b c c."""
    outputs = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    targets = np.array([0, 0, 0, 1, 1, 2])

    result = evaluate(outputs, targets, THREE, None)

    assert [[2, 1, 0], [0, 1, 1], [0, 0, 1]] == result["confusion_matrix"]
    assert result["per_label"]["a"] == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "rows": 3})
    assert result["per_label"]["b"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "rows": 2})
    assert result["per_label"]["c"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "rows": 1})
    assert result["metrics"] == pytest.approx(
        {"accuracy": 4 / 6, "precision": 2 / 3, "recall": 13 / 18, "f1": (0.8 + 0.5 + 2 / 3) / 3}
    )
    assert 6 == result["rows"]


@pytest.mark.parametrize(("positive", "expected"), [("yes", (0.5, 1 / 3, 0.4)), ("no", (0.6, 0.75, 2 / 3))])
def test_metrics_of_two_labels_are_those_of_the_positive_one(
    positive: str, expected: tuple[float, float, float]
) -> None:
    """Truth: 4 no, 3 yes; predicted yes: one of each."""
    targets = np.array([0, 0, 0, 0, 1, 1, 1])
    outputs = np.eye(2)[[1, 0, 0, 0, 1, 0, 0]]

    figures = evaluate(outputs, targets, TWO, positive)["metrics"]

    assert expected == pytest.approx((figures["precision"], figures["recall"], figures["f1"]))


def test_label_that_no_test_row_has_still_has_a_line() -> None:
    result = evaluate(np.eye(3)[[0, 1]], np.array([0, 1]), THREE, None)

    assert [[1, 0, 0], [0, 1, 0], [0, 0, 0]] == result["confusion_matrix"]
    assert {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 0} == result["per_label"]["c"]


@pytest.mark.parametrize("name", ["digits_artifact", "breast_cancer_artifact"])
def test_card_of_a_classification_says_what_scikit_learn_says(name: str, request: pytest.FixtureRequest) -> None:
    version: Artifact = request.getfixturevalue(name)
    outputs, truth = outputs_on_test_rows(version)
    predicted = outputs.argmax(axis=1)

    evaluation = version.card["evaluation"]

    assert metrics.confusion_matrix(truth, predicted).tolist() == evaluation["confusion_matrix"]
    average = "macro" if len(version.signature.labels) > 2 else "binary"
    assert evaluation["metrics"] == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(truth, predicted),
            "precision": metrics.precision_score(truth, predicted, average=average),
            "recall": metrics.recall_score(truth, predicted, average=average),
            "f1": metrics.f1_score(truth, predicted, average=average),
        }
    )
    assert evaluation["metrics"]["accuracy"] > 0.8


def test_card_of_a_regression_says_what_scikit_learn_says(diabetes_artifact: Artifact) -> None:
    outputs, truth = outputs_on_test_rows(diabetes_artifact)

    evaluation = diabetes_artifact.card["evaluation"]

    assert evaluation["metrics"] == pytest.approx(
        {
            "mae": metrics.mean_absolute_error(truth, outputs),
            "mse": metrics.mean_squared_error(truth, outputs),
            "r2": metrics.r2_score(truth, outputs),
        },
        rel=1e-5,
    )
    assert 20 < evaluation["metrics"]["mae"] < 80


def test_gate_passes_at_its_limit_and_fails_below() -> None:
    spec = parse_spec({"model": "m", "dataset": {"builtin": "iris"}, "gates": {"min": {"accuracy": 0.9, "f1": 0.8}}})

    gates = check_gates(spec, {"accuracy": 0.9, "precision": 1.0, "recall": 1.0, "f1": 0.79})

    assert gates == [
        {"gate": "accuracy", "passed": True, "value": 0.9, "limit": 0.9},
        {"gate": "f1", "passed": False, "value": 0.79, "limit": 0.8},
    ]


@pytest.mark.parametrize(("rows", "expected"), [(20, 20), (10_000, None)])
def test_background_is_a_sample_of_the_train_part(rows: int, expected: int | None) -> None:
    _, dataset, split = prepared("diabetes", epochs=1)

    background, weights = choose_background(dataset, split, rows, seed=0)

    assert (expected or len(split.train)) == len(background)
    train = {row.tobytes() for row in dataset.inputs[split.train]}
    assert {row.tobytes() for row in background} <= train
    np.testing.assert_allclose(weights, 1 / len(background))


def prepared(
    builtin: str, *, epochs: int, keys: dict[str, Any] | None = None, **training: Any
) -> tuple[TrainingSpec, Dataset, Split]:
    document = {"model": "m", "dataset": {"builtin": builtin}, "training": {"epochs": epochs, **training}}
    spec = parse_spec(document | (keys or {}))
    dataset = load_builtin(builtin)
    return spec, dataset, split_dataset(dataset, test=spec.split.test, validation=spec.split.validation)


def fit_builtin(
    builtin: str,
    *,
    epochs: int,
    architecture: dict[str, Any] | None = None,
    regularization: dict[str, Any] | None = None,
    reports: list[EpochReport] | None = None,
    **training: Any,
) -> tuple[FittedModel, TrainingSpec, Dataset, Split]:
    keys = {
        "architecture": architecture or {"type": "mlp", "layers": [16]},
        "regularization": regularization or {},
    }
    spec, dataset, split = prepared(builtin, epochs=epochs, keys=keys, **training)
    return fit(spec, dataset, split, report=[].append if reports is None else reports.append), spec, dataset, split


def outputs_on_test_rows(version: Artifact) -> tuple[Any, Any]:
    """One column per target, and the truth, on the rows that the version has never seen."""
    dataset = load_builtin(version.card["data"]["dataset"]["builtin"])
    split = split_dataset(dataset, test=0.2, validation=0.2)
    units = predict_raw(version.load_keras(), dataset.inputs[split.test])
    return target_columns(units, version.signature, version.signature.outputs[0]), dataset.targets[split.test]
