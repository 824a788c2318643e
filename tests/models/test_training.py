"""Fitting and evaluating: reproducible, the best epoch kept, metrics right, the target's own units."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.utils.class_weight import compute_sample_weight

from models.artifact import Artifact
from models.batches import shuffled_batches
from models.building import Reporter, build_version, choose_background
from models.datasets import Dataset, Split, load_builtin, split_dataset
from models.errors import InvalidDataset, LossNotFinite
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


def test_learning_rate_of_every_epoch_is_in_the_history() -> None:
    schedule = {"type": "cosine"}
    fitted, *_ = fit_builtin("iris", epochs=3, learning_rate=0.04, schedule=schedule, early_stopping=None)

    assert pytest.approx([0.04, 0.03, 0.01]) == fitted.history["learning_rate"]


def test_schedule_changes_what_is_learned() -> None:
    constant, cosine = (
        fit_builtin("iris", epochs=3, schedule=schedule)[0].history["loss"] for schedule in (None, {"type": "cosine"})
    )

    assert constant[0] == cosine[0]
    assert constant[1:] != cosine[1:]


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    """One batch of all rows and a rate of nearly 0: the loss is that of the first weights, each row by its weight."""
    keys = {"regularization": {"dropout": 0.0, "l2": 0.0}}
    fitted, _, dataset, split = fit_builtin(
        "breast_cancer", epochs=1, batch_size=1000, learning_rate=1e-30, class_weight="balanced", **keys
    )
    truth = dataset.targets[split.train]
    benign = predict_raw(fitted.model, dataset.inputs[split.train])[:, 0].astype(np.float64)

    losses = -np.log(np.where(truth == 1, benign, 1 - benign))

    expected = np.mean(losses * compute_sample_weight("balanced", truth))
    assert pytest.approx(expected, rel=1e-5) == fitted.history["loss"][0]
    assert abs(expected - losses.mean()) > 1e-3


def test_order_of_an_epoch_follows_from_seed_and_epoch_alone() -> None:
    rows = np.arange(10)

    def orders(seed: int, first_epoch: int) -> list[list[int]]:
        stream = shuffled_batches((rows,), batch_size=4, seed=seed, first_epoch=first_epoch, epochs=4)
        flat = np.concatenate([batch[0] for batch in stream.as_numpy_iterator()])
        return flat.reshape(-1, 10).tolist()

    assert orders(7, 0)[2:] == orders(7, 2)
    assert [sorted(order) for order in orders(7, 0)] == [rows.tolist()] * 4
    assert 8 == len({tuple(order) for order in orders(7, 0) + orders(8, 0)})


def test_batches_keep_rows_and_their_targets_together() -> None:
    rows = np.arange(10, dtype=np.float32)

    stream = shuffled_batches((rows, rows * 2), batch_size=4, seed=0, first_epoch=0, epochs=1)

    batches = list(stream.as_numpy_iterator())
    assert [4, 4, 2] == [len(batch[0]) for batch in batches]
    assert all((batch[0] * 2 == batch[1]).all() for batch in batches)


def test_part_without_rows_is_refused() -> None:
    spec, dataset, split = prepared("iris", epochs=1)
    empty = Split(split.train, split.validation, split.test[:0])

    with pytest.raises(InvalidDataset, match="The test part has no rows: 150 rows"):
        fit(spec, dataset, empty)


def test_specification_whose_split_leaves_an_empty_part_builds_nothing(tmp_path: Path) -> None:
    spec = parse_spec({"model": "m", "dataset": {"builtin": "iris"}, "split": {"test": 1e-9}})

    with pytest.raises(
        InvalidDataset, match=r"The test part has no rows: 150 rows, 149 of them different .* are too few"
    ):
        build_version(spec, tmp_path / "job", Reporter(), tmp_path / "checkpoints")

    assert [] == list(tmp_path.iterdir())


def test_train_part_with_one_label_is_refused() -> None:
    spec, dataset, split = prepared("iris", epochs=1)
    setosa = split.train[dataset.targets[split.train] == 0]

    with pytest.raises(InvalidDataset) as raised:
        fit(spec, dataset, Split(setosa, split.validation, split.test))

    assert (
        f"All {len(setosa)} rows of the train part have the label 'setosa': expected at least two labels of "
        "'setosa', 'versicolor', 'virginica'. Give rows of the others, or another split."
    ) == str(raised.value)


def test_loss_that_diverges_stops_the_fit_at_its_batch_with_the_cure() -> None:
    reports: list[EpochReport] = []

    with pytest.raises(LossNotFinite) as raised:
        fit_builtin("diabetes", epochs=3, learning_rate=1e30, optimizer="sgd", reports=reports)

    message = str(raised.value)
    assert re.match(r"The loss is (nan|inf) at batch 2 of \d+ in epoch 1: expected a finite number\. Lower", message)
    assert "training.learning_rate (it is 1e+30), or look for extreme values in the data." in message
    assert [] == reports


def test_validation_loss_that_diverges_names_its_epoch() -> None:
    """One batch an epoch: its loss is computed before the step that ruins the weights."""
    with pytest.raises(LossNotFinite, match=r"^The loss is (nan|inf) at the validation part in epoch 1:"):
        fit_builtin("diabetes", epochs=3, learning_rate=1e30, optimizer="sgd", batch_size=1000)


def test_classification_metrics_by_hand() -> None:
    """Truth a a a b b c, predicted a a b b c c."""
    outputs = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    targets = np.array([0, 0, 0, 1, 1, 2])

    result = evaluate(outputs, targets, THREE, None)

    assert [[2, 1, 0], [0, 1, 1], [0, 0, 1]] == result["confusion_matrix"]
    lines = result["per_label"]
    assert those(lines["a"], SUMMED) == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "rows": 3})
    assert those(lines["b"], SUMMED) == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "rows": 2})
    assert those(lines["c"], SUMMED) == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "rows": 1})
    assert those(result["metrics"], ("accuracy", "precision", "recall", "f1")) == pytest.approx(
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
    assert {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 0} == those(result["per_label"]["c"], SUMMED)
    assert None is result["per_label"]["c"]["roc_auc"]


@pytest.mark.parametrize("name", ["digits_artifact", "breast_cancer_artifact"])
def test_card_of_a_classification_says_what_scikit_learn_says(name: str, request: pytest.FixtureRequest) -> None:
    version: Artifact = request.getfixturevalue(name)
    outputs, truth = outputs_on_test_rows(version)
    predicted = outputs.argmax(axis=1)

    evaluation = version.card["evaluation"]

    assert metrics.confusion_matrix(truth, predicted).tolist() == evaluation["confusion_matrix"]
    average = "macro" if len(version.signature.labels) > 2 else "binary"
    assert those(evaluation["metrics"], ("accuracy", "precision", "recall", "f1")) == pytest.approx(
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

    assert those(evaluation["metrics"], ("mae", "mse", "r2")) == pytest.approx(
        {
            "mae": metrics.mean_absolute_error(truth, outputs),
            "mse": metrics.mean_squared_error(truth, outputs),
            "r2": metrics.r2_score(truth, outputs),
        },
        rel=1e-5,
    )
    assert 20 < evaluation["metrics"]["mae"] < 80


@pytest.mark.parametrize(("rows", "expected"), [(20, 20), (10_000, None)])
def test_background_is_a_sample_of_the_train_part(rows: int, expected: int | None) -> None:
    _, dataset, split = prepared("diabetes", epochs=1)

    background, weights = choose_background(dataset, split, rows, seed=0)

    assert (expected or len(split.train)) == len(background)
    train = {row.tobytes() for row in dataset.inputs[split.train]}
    assert {row.tobytes() for row in background} <= train
    np.testing.assert_allclose(weights, 1 / len(background))


SUMMED = ("precision", "recall", "f1", "rows")


def those(figures: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: figures[name] for name in names}


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
