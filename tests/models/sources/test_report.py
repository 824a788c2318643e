"""The report says what a person should know before a model is made, and measures what it suspects."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from models.raw import RawColumn, RawData
from models.sources.leakage import scores_alone, suspected
from models.sources.report import describe_data, shared_rows


def raw_of(columns: dict[str, RawColumn]) -> RawData:
    n_rows = len(next(iter(columns.values())).values)
    return RawData(columns, n_rows, "", tuple(i.to_bytes(4, "big") for i in range(n_rows)))


def numbers(values: Any) -> RawColumn:
    return RawColumn("numeric", np.asarray(values, dtype=np.float64))


def words(values: Any) -> RawColumn:
    return RawColumn("categorical", np.array(list(values), dtype=object))


@pytest.fixture(scope="module")
def cancer() -> dict[str, RawColumn]:
    bunch: Any = load_breast_cancer()
    columns = {name: numbers(bunch.data[:, i]) for i, name in enumerate(bunch.feature_names[:5])}
    return {**columns, "diagnosis": words(bunch.target_names[bunch.target])}


def test_target_under_another_name_is_suspected_and_good_features_are_not(cancer: dict[str, RawColumn]) -> None:
    target = cancer["diagnosis"]
    code = numbers([{"benign": 7.0, "malignant": 2.0}[label] for label in target.values])
    letters = words(label[0] for label in target.values)

    metric, scores = scores_alone({**cancer, "code": code, "letters": letters}, target)

    assert "roc_auc" == metric
    assert ["code", "letters"] == sorted(name for name in suspected(scores) if name != "diagnosis")
    assert 0.9 < scores["mean radius"] < 0.99


def test_feature_whose_gaps_are_the_target_is_suspected(cancer: dict[str, RawColumn]) -> None:
    """A date of death is missing for whoever lives."""
    gaps = numbers([1.0 if label == "malignant" else np.nan for label in cancer["diagnosis"].values])

    _, scores = scores_alone({"gaps": gaps}, cancer["diagnosis"])

    assert ["gaps"] == suspected(scores)


def test_noise_alone_predicts_nothing(cancer: dict[str, RawColumn]) -> None:
    rng = np.random.default_rng(0)
    features = {"noise": numbers(rng.random(569)), "codes": words(f"c{i}" for i in rng.integers(0, 300, 569))}

    _, scores = scores_alone(features, cancer["diagnosis"])

    assert max(scores.values()) < 0.6


def test_regression_is_judged_by_r2() -> None:
    bunch: Any = load_diabetes(scaled=False)
    target = numbers(bunch.target)
    features = {"bmi": numbers(bunch.data[:, 2]), "copy": numbers(bunch.target * 3 + 1)}

    metric, scores = scores_alone(features, target)

    assert "r2" == metric
    assert 0.1 < scores["bmi"] < 0.5
    assert scores["copy"] > 0.95


def test_report_names_balance_outliers_copies_and_leaks(cancer: dict[str, RawColumn]) -> None:
    radius = cancer["mean radius"].values.copy()
    radius[:4] = 1e6
    columns = {**cancer, "mean radius": numbers(radius), "again": cancer["mean area"]}
    columns["even"] = numbers(np.linspace(0, 1, 569))
    columns["leak"] = words(label.upper() for label in cancer["diagnosis"].values)

    report = describe_data(raw_of(columns), "diagnosis")

    assert {"benign": 357, "malignant": 212} == report["labels"]
    assert 4 == report["outliers"]["mean radius"]["count"]
    assert "even" not in report["outliers"]
    assert [["mean area", "again"]] == report["alike"]
    assert ["leak"] == report["suspected_leaks"]
    assert any("leak alone predicts diagnosis" in remark for remark in report["remarks"])


def test_rare_labels_are_said(cancer: dict[str, RawColumn]) -> None:
    labels = ["rare"] * 3 + ["common"] * 566

    report = describe_data(raw_of({"x": cancer["mean radius"], "y": words(labels)}), "y")

    assert ["fewer than one row in a hundred has the label 'rare'"] == report["remarks"]


def test_rows_of_other_parts_with_the_features_of_a_train_row_are_counted() -> None:
    inputs = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4], [-0.0, 1], [0.0, 1]], dtype=np.float32)
    parts = {"train": np.array([0, 1, 5]), "validation": np.array([2, 3]), "test": np.array([4, 6])}

    assert {"validation": 1, "test": 2} == shared_rows(inputs, parts)
