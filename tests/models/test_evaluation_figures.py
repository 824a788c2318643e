"""Metrics and their intervals: what scikit-learn and hand counts say, and what cannot be said is left out."""

import math
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn import metrics as sklearn_metrics

from models.evaluation import evaluate
from models.evaluation.bootstrap import Distribution, Resampling
from models.evaluation.calibration import (
    expected_when_calibrated,
    fit_temperature,
    probabilities_at,
    reliability_curve,
)
from models.evaluation.names import METRICS
from models.evaluation.residuals import residual_summary
from models.evaluation.weighted import ClassificationMetrics, RegressionMetrics, weighted_metrics
from models.signature import Feature, Signature

X = (Feature("x", "numeric", (), (0.0, 1.0)),)
TWO = Signature(X, "classification", "y", ("no", "yes"))
FOUR = Signature(X, "classification", "y", ("a", "b", "c", "d"))
VALUE = Signature(X, "regression", "y")


def classified(n_rows: int, n_labels: int, *, strength: float = 1.5, seed: int = 0) -> tuple[Any, Any, Any]:
    """Probabilities with many ties, true classes, and the logits behind them."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(n_labels, size=n_rows)
    logits = np.round(rng.normal(size=(n_rows, n_labels)) + strength * np.eye(n_labels)[targets], 1)
    return probabilities_at(logits, 1.0), targets, logits


def test_every_metric_of_two_labels_is_scikit_learns() -> None:
    outputs, targets, _ = classified(400, 2)
    yes, predicted = outputs[:, 1], outputs.argmax(axis=1)

    found = evaluate(outputs, targets, TWO, "yes")["metrics"]

    assert found.pop("expected_calibration_error") >= 0
    assert found == pytest.approx(
        {
            "accuracy": sklearn_metrics.accuracy_score(targets, predicted),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(targets, predicted),
            "precision": sklearn_metrics.precision_score(targets, predicted),
            "recall": sklearn_metrics.recall_score(targets, predicted),
            "f1": sklearn_metrics.f1_score(targets, predicted),
            "macro_precision": sklearn_metrics.precision_score(targets, predicted, average="macro"),
            "macro_recall": sklearn_metrics.recall_score(targets, predicted, average="macro"),
            "macro_f1": sklearn_metrics.f1_score(targets, predicted, average="macro"),
            "roc_auc": sklearn_metrics.roc_auc_score(targets, yes),
            "pr_auc": sklearn_metrics.average_precision_score(targets, yes),
            "log_loss": sklearn_metrics.log_loss(targets, outputs),
            "brier": sklearn_metrics.brier_score_loss(targets, yes),
        }
    )


def test_every_metric_of_four_labels_is_scikit_learns() -> None:
    outputs, targets, _ = classified(400, 4)
    predicted = outputs.argmax(axis=1)

    found = evaluate(outputs, targets, FOUR, None)
    figures = found["metrics"]

    assert figures["f1"] == figures["macro_f1"]
    assert figures["f1"] == pytest.approx(sklearn_metrics.f1_score(targets, predicted, average="macro"))
    assert figures["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(targets, outputs, multi_class="ovr"))
    assert figures["pr_auc"] == pytest.approx(sklearn_metrics.average_precision_score(targets, outputs))
    assert figures["log_loss"] == pytest.approx(sklearn_metrics.log_loss(targets, outputs))
    assert figures["brier"] == pytest.approx(sklearn_metrics.brier_score_loss(targets, outputs))
    assert found["per_label"]["c"]["roc_auc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(targets == 2, outputs[:, 2])
    )


def test_regression_metrics_are_scikit_learns_also_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    targets = 1e6 + rng.normal(size=300)
    values = targets + rng.normal(size=300) / 2

    found = evaluate(values[:, None], targets, VALUE, None)["metrics"]

    assert found == pytest.approx(
        {
            "mae": sklearn_metrics.mean_absolute_error(targets, values),
            "mse": sklearn_metrics.mean_squared_error(targets, values),
            "rmse": sklearn_metrics.root_mean_squared_error(targets, values),
            "r2": sklearn_metrics.r2_score(targets, values),
        }
    )


@pytest.mark.parametrize(("n_labels", "positive"), [(2, 1), (4, None)])
def test_weights_count_rows_as_repeating_them_does(n_labels: int, positive: int | None) -> None:
    outputs, targets, _ = classified(60, n_labels)
    weights = np.random.default_rng(1).integers(0, 4, size=60)
    repeated = np.repeat(np.arange(60), weights)

    weighted = ClassificationMetrics(outputs, targets, positive)(weights[None].astype(float))
    plain = ClassificationMetrics(outputs[repeated], targets[repeated], positive)(np.ones((1, len(repeated))))

    assert {name: values[0] for name, values in weighted.items()} == pytest.approx(
        {name: values[0] for name, values in plain.items()}
    )


def test_weights_count_rows_of_a_regression_as_repeating_them_does() -> None:
    rng = np.random.default_rng(0)
    targets, values, weights = rng.normal(size=40), rng.normal(size=40), rng.integers(0, 4, size=40)
    repeated = np.repeat(np.arange(40), weights)

    weighted = RegressionMetrics(values, targets)(weights[None].astype(float))
    plain = RegressionMetrics(values[repeated], targets[repeated])(np.ones((1, len(repeated))))

    assert {n: v[0] for n, v in weighted.items()} == pytest.approx({n: v[0] for n, v in plain.items()})


def test_calibration_error_by_hand() -> None:
    """Predicted at 0.9 twice, right once; at 0.6 twice, right twice: (2 |0.5 - 0.9| + 2 |1 - 0.6|) / 4."""
    outputs = np.array([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.4, 0.6]])

    found = evaluate(outputs, np.array([1, 0, 1, 1]), TWO, "yes")["metrics"]

    assert pytest.approx(0.4) == found["expected_calibration_error"]


@pytest.mark.parametrize(
    ("outputs", "targets", "signature", "undefined"),
    [
        ([[0.2, 0.8], [0.6, 0.4]], [1, 1], TWO, {"roc_auc": "all 2 rows have the label 'yes'"}),
        ([[0.2, 0.8]], [0], TWO, {"roc_auc": "all 1 rows", "pr_auc": "all 1 rows"}),
        ([[1.0], [2.0]], [3.0, 3.0], VALUE, {"r2": "all 2 rows have the same y"}),
        ([[1.0]], [3.0], VALUE, {"r2": "one row has no variance"}),
        ([[math.nan], [2.0]], [3.0, 4.0], VALUE, dict.fromkeys(["mae", "mse", "rmse", "r2"], "not a finite number")),
    ],
)
def test_what_is_not_defined_is_null_with_its_reason(
    outputs: Any, targets: Any, signature: Signature, undefined: dict[str, str]
) -> None:
    found = evaluate(np.array(outputs), np.array(targets), signature, "yes" if signature is TWO else None)

    assert undefined.keys() == found["undefined"].keys()
    assert all(words in found["undefined"][name] for name, words in undefined.items())
    assert all(found["metrics"][name] is None for name in undefined)
    assert set(METRICS[signature.task]) == found["metrics"].keys()
    assert b"NaN" not in orjson.dumps(found)


def test_labels_without_rows_are_left_out_of_the_areas_and_the_balanced_accuracy() -> None:
    outputs, targets, _ = classified(200, 3)
    padded = np.column_stack([outputs, np.zeros(200)])

    three = evaluate(outputs, targets, Signature(X, "classification", "y", ("a", "b", "c")), None)["metrics"]
    found = evaluate(padded, targets, FOUR, None)["metrics"]

    for name in ("roc_auc", "pr_auc", "balanced_accuracy", "log_loss"):
        assert three[name] == pytest.approx(found[name])
    assert found["macro_recall"] == pytest.approx(three["macro_recall"] * 3 / 4)


def test_the_bootstrap_finds_the_standard_error_of_an_accuracy() -> None:
    outputs, targets, _ = classified(500, 2)
    resampling = Resampling.draw(500, seed=3)

    found = Distribution.of(weighted_metrics(outputs, targets, TWO, "yes"), resampling)

    accuracy = found.whole["accuracy"]
    assert pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 500), rel=0.1) == found.resampled["accuracy"].std()
    low, high = found.interval("accuracy") or (0, 0)
    assert low < accuracy < high


def test_resampling_is_of_its_seed_and_every_resample_has_as_many_rows() -> None:
    one, again, other = (Resampling.draw(50, seed=seed) for seed in (1, 1, 2))

    assert np.array_equal(one.counts, again.counts)
    assert not np.array_equal(one.counts, other.counts)
    assert (one.counts.sum(axis=1) == 50).all()
    assert (one.left_out.sum(axis=0) == len(one.left_out) - 1).all()


def test_a_rare_label_is_in_every_resample() -> None:
    targets = np.array([0] * 97 + [1] * 3)

    stratified, plain = Resampling.draw(100, strata=targets), Resampling.draw(100)

    assert stratified.stratified
    assert (stratified.counts[:, 97:].sum(axis=1) == 3).all()
    assert not plain.stratified
    assert (plain.counts[:, 97:].sum(axis=1) == 0).any()


def test_intervals_are_those_of_scipys_bca() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).exponential(size=60)
    found = Distribution.of(RegressionMetrics(values, np.zeros(60)), Resampling.draw(60, n_resamples=20_000))

    expected = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval

    assert pytest.approx((expected.low, expected.high), rel=0.01) == found.interval("mae")


def test_an_interval_that_resampling_cannot_know_is_none() -> None:
    """Every row right: all resamples say 1, which is no reason to be sure."""
    outputs = np.array([[0.1, 0.9], [0.9, 0.1]] * 20)

    found = Distribution.of(weighted_metrics(outputs, np.array([1, 0] * 20), TWO, "yes"), Resampling.draw(40))

    assert 1.0 == found.whole["accuracy"]
    assert found.interval("accuracy") is None


def test_a_paired_difference_is_known_better_than_both_scores() -> None:
    outputs, targets, logits = classified(300, 2)
    worse = probabilities_at(logits + np.random.default_rng(1).normal(scale=0.3, size=logits.shape), 1.0)
    resampling = Resampling.draw(300)
    one, other = (Distribution.of(weighted_metrics(each, targets, TWO, "yes"), resampling) for each in (outputs, worse))

    difference = one.minus(other)

    width = [np.ptp(found.interval("roc_auc") or (0, 0)) for found in (one, other, difference)]
    assert pytest.approx(one.whole["roc_auc"] - other.whole["roc_auc"]) == difference.whole["roc_auc"]
    assert width[2] < 0.6 * min(width[:2])
    assert 0.5 < (difference.share_above_zero("roc_auc") or 0) <= 1
    assert 0.5 == one.minus(one).share_above_zero("roc_auc")


def test_intervals_from_a_part_of_the_rows_are_narrowed_around_the_whole() -> None:
    rng = np.random.default_rng(0)
    errors = rng.exponential(size=4000)
    whole, part = (
        Distribution.of(RegressionMetrics(each, np.zeros(len(each))), Resampling.draw(len(each)))
        for each in (errors, errors[:1000])
    )

    found = part.of_all(whole.whole, 4000, 1000)

    assert whole.whole == found.whole
    assert pytest.approx(whole.interval("mae"), rel=0.02) == found.interval("mae")


@pytest.mark.soak
@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "f1"])
def test_intervals_hold_the_truth_as_often_as_they_say(metric: str) -> None:
    truth_outputs, truth_targets, _ = classified(400_000, 2, seed=99)
    truth = evaluate(truth_outputs, truth_targets, TWO, "yes")["metrics"][metric]
    held = 0
    for seed in range(300):
        outputs, targets, _ = classified(150, 2, seed=seed)
        found = Distribution.of(weighted_metrics(outputs, targets, TWO, "yes"), Resampling.draw(150, seed=seed))
        low, high = found.interval(metric) or (0.0, 1.0)
        held += low <= truth <= high

    assert 0.90 <= held / 300 <= 0.985


@pytest.mark.parametrize("n_labels", [2, 4])
def test_the_temperature_of_overconfident_logits_is_found(n_labels: int) -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, n_labels))
    chances = probabilities_at(logits, 1.0)
    targets = (rng.random((20_000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    given = 3 * (logits[:, 1:] - logits[:, :1] if n_labels == 2 else logits)

    found = fit_temperature(given, targets)

    assert pytest.approx(3.0, rel=0.05) == found
    np.testing.assert_allclose(chances, probabilities_at(given, 3.0), atol=1e-12)


def test_the_temperature_of_logits_without_an_error_is_bounded() -> None:
    assert pytest.approx(0.1, rel=0.01) == fit_temperature(np.array([[5.0], [-5.0]]), np.array([1, 0]))


def test_a_calibrated_model_is_rarely_called_miscalibrated_and_an_overconfident_one_is() -> None:
    def p_value(seed: int, added: float) -> float:
        rng = np.random.default_rng(seed)
        chances = rng.uniform(0.55, 1, size=200)
        right = rng.random(200) < chances
        said = np.clip(chances + added, 0, 0.999)
        outputs = np.column_stack([1 - said, said])
        observed = evaluate(outputs, right.astype(int), TWO, "yes")["metrics"]["expected_calibration_error"]
        return expected_when_calibrated(said, observed, 0)["p_value"]

    honest = np.array([p_value(seed, 0.0) for seed in range(40)])

    assert (honest < 0.05).mean() <= 0.15
    assert 0.35 <= honest.mean() <= 0.65
    assert p_value(0, 0.2) < 0.01


def test_the_reliability_curve_counts_every_row_once() -> None:
    probabilities = np.array([0.0, 0.05, 0.5, 0.5, 1.0])

    curve = reliability_curve(probabilities, np.array([False, True, True, False, True]))

    assert [2, 2, 1] == [line["rows"] for line in curve]
    assert [0.5, 0.5, 1.0] == [line["came_true"] for line in curve]
    assert [0.025, 0.5, 1.0] == pytest.approx([line["mean_probability"] for line in curve])


@pytest.mark.parametrize("n_rows", [1, 2, 7, 200])
def test_residuals_are_summed_up_for_any_number_of_rows(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    targets, values = rng.normal(size=n_rows), rng.normal(size=n_rows)

    found = residual_summary(values, targets)

    lines = found["by_prediction"]
    assert n_rows == sum(line["rows"] for line in lines)
    assert pytest.approx((targets - values).mean()) == found["mean"]
    assert pytest.approx(np.quantile(targets - values, 0.95)) == found["quantiles"]["0.95"]
    assert pytest.approx(np.abs(targets - values).mean()) == sum(line["rows"] * line["mae"] for line in lines) / n_rows
    assert [line["from"] for line in lines] == sorted(line["from"] for line in lines)
