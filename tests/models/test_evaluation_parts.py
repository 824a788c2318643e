"""Groups, baselines, the surrogate tree and robustness, each on real data."""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from fairlearn import metrics as fairlearn_metrics

from models.artifact import Artifact
from models.datasets import Dataset, Split, load_builtin, split_dataset
from models.errors import InvalidSpec
from models.evaluation.baselines import compared, constant_baseline, gradient_boosting, place_in_words
from models.evaluation.bootstrap import Distribution, Resampling
from models.evaluation.groups import groups_of
from models.evaluation.robustness import Scale, robustness
from models.evaluation.slices import Compared, Parity, fairness_warnings, slice_by
from models.evaluation.surrogate import fit_surrogate
from models.evaluation.temper import temper, temperature_of
from models.evaluation.tree_words import tree_as_text
from models.evaluation.weighted import weighted_metrics
from models.evaluation.whole import PARTS, Asked, evaluate_version
from models.gates.limits import judge_limits
from models.outputs import target_columns, target_model
from models.signature import Feature, Signature
from models.spec import parse_spec
from models.training import predict_raw

X = (Feature("x", "numeric", (), (0.0, 1.0)),)
TWO = Signature(X, "classification", "y", ("no", "yes"))
THREE = Signature(X, "classification", "y", ("a", "b", "c"))


def all_rows(values: Any) -> Any:
    return groups_of(np.array(values), np.arange(len(values)), np.arange(len(values)))


def test_numbers_are_cut_at_the_quartiles_of_the_learned_rows() -> None:
    values = np.concatenate([np.arange(100.0), [5.0, 500.0, np.nan]])

    groups = groups_of(values, np.arange(100), np.arange(100, 103))

    assert (24.75, 49.5, 74.25) == groups.cut_at
    assert ["<= 24.75", "> 74.25", "missing"] == [groups.names[place] for place in groups.of_row]


def test_few_numbers_words_and_dates_are_groups_of_their_own() -> None:
    sexes = all_rows([2.0, 1.0, 2.0, np.nan])
    words = all_rows(np.array(["b", None, "a"], dtype=object))
    many = all_rows(np.array([f"w{i % 40}" for i in range(100)] + ["w0"] * 50, dtype=object))
    dates = all_rows(np.array([f"2020-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(60)], dtype="datetime64[ms]"))

    assert (("1", "2", "missing"), [1, 0, 1, 2]) == (sexes.names, sexes.of_row.tolist())
    assert (("a", "b", "missing"), [1, 2, 0]) == (words.names, words.of_row.tolist())
    assert (20, "21 others") == (len(many.names), many.names[-1])
    assert dates.names[0].startswith("<= 2020-0")


def test_fairness_is_fairlearns_and_intervals_are_around_it() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=600)
    targets = (rng.random(600) < 0.3 + 0.1 * group).astype(int)
    yes = np.clip(rng.random(600) * 0.5 + 0.3 * targets + 0.1 * group, 0, 1)
    outputs = np.column_stack([1 - yes, yes])
    asked: dict[str, Any] = {"y_true": targets, "y_pred": outputs.argmax(axis=1), "sensitive_features": group}

    found = slice_by(all_rows(group), outputs, targets, TWO, "yes", 0)

    parity, odds = found["demographic_parity"], found["equalized_odds"]
    assert parity["difference"] == pytest.approx(fairlearn_metrics.demographic_parity_difference(**asked))
    assert parity["ratio"] == pytest.approx(fairlearn_metrics.demographic_parity_ratio(**asked))
    assert odds["difference"] == pytest.approx(fairlearn_metrics.equalized_odds_difference(**asked))
    assert odds["ratio"] == pytest.approx(fairlearn_metrics.equalized_odds_ratio(**asked))
    assert parity["interval"][0] < parity["difference"] < parity["interval"][1]
    ours = Parity(Compared(group, 3), asked["y_pred"] == 1, targets == 1)(np.ones((1, 600)))
    assert {name: values[0] for name, values in ours.items()} == pytest.approx(
        {"demographic_parity": parity["difference"], "equalized_odds": odds["difference"]}
    )
    assert [200, 200, 200] == pytest.approx([line["rows"] for line in found["groups"]], abs=40)
    assert found["groups"][0]["selection_rate"] == pytest.approx(asked["y_pred"][group == 0].mean())


def test_groups_too_small_are_shown_and_not_compared() -> None:
    targets = np.array([0, 1] * 30 + [1])
    group = np.array([0] * 40 + [1] * 20 + [2])
    outputs = np.column_stack([1 - targets, targets]).astype(float)

    found = slice_by(all_rows(group), outputs, targets, TWO, "yes", 0)

    assert ["2"] == found["too_small"]
    assert 1 == found["groups"][2]["rows"]
    assert found["groups"][2]["metrics"]["roc_auc"] is None
    assert 0.0 == found["demographic_parity"]["difference"]
    assert any("fewer than 10 test rows were not compared: 2" in words for words in fairness_warnings("g", found))
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("signature", [TWO, THREE, Signature(X, "regression", "y")], ids=["two", "three", "value"])
@pytest.mark.parametrize("n_rows", [2, 30])
def test_slices_of_few_rows_and_constant_predictions_are_json(signature: Signature, n_rows: int) -> None:
    outputs = np.tile([[0.5, 0.3, 0.2]], (n_rows, 1))[:, : len(signature.targets)]
    targets = np.arange(n_rows) % 2 if signature.labels else np.ones(n_rows)
    positive = "yes" if signature is TWO else None

    found = slice_by(all_rows(np.arange(n_rows) % 2), outputs, targets, signature, positive, 0)

    json.dumps(found, allow_nan=False)
    assert (found["differences"] is None) == (n_rows == 2)


def test_a_group_that_fares_evidently_worse_is_said() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 300)
    targets = rng.integers(2, size=600)
    right = rng.random(600) < np.where(group == 0, 0.95, 0.7)
    predicted = np.where(right, targets, 1 - targets)

    found = slice_by(all_rows(group), np.eye(2)[predicted], targets, TWO, "yes", 0)

    (warning,) = fairness_warnings("g", found)
    assert warning.startswith("accuracy differs by 0.2")
    assert found["differences"]["accuracy"]["interval"][0] > 0.1


def test_boosting_beats_a_network_that_has_learned_nothing_and_the_card_says_so() -> None:
    dataset, split = prepared("breast_cancer")
    truth = dataset.targets[split.test]
    seen = np.concatenate([split.train, split.validation])
    boosting = gradient_boosting(
        dataset.inputs[seen], dataset.targets[seen], dataset.inputs[split.test], dataset.signature, 0
    )
    constant = constant_baseline(dataset.targets[split.train], len(truth), dataset.signature)
    noise = np.random.default_rng(0).random(len(truth))
    own = distribution(np.column_stack([1 - noise, noise]), truth, dataset.signature)

    words = []
    for baseline in (boosting, constant):
        assert baseline.outputs is not None
        other = distribution(baseline.outputs, truth, dataset.signature)
        line = compared(own, other, "classification")["roc_auc"]
        words.append(place_in_words("roc_auc", own.whole["roc_auc"], baseline, other.whole["roc_auc"], line))

    assert words[0] is not None
    assert words[0].startswith("Gradient boosting predicts these rows better: roc_auc 0.")
    assert words[0].endswith("The network does not earn its place here.")
    assert words[1] is not None
    assert "not evidently better than a constant answer ('benign' for every row" in words[1]


def test_boosting_gives_labels_that_no_row_had_a_probability_of_zero() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 1)).astype(np.float32)

    found = gradient_boosting(rows, np.array([0, 2] * 30), rows[:5], THREE, 0)

    assert found.outputs is not None
    np.testing.assert_allclose(found.outputs.sum(axis=1), 1.0)
    assert (found.outputs[:, 1] == 0).all()


def test_a_tree_in_place_of_a_tree_like_function_is_followed_wholly() -> None:
    rng = np.random.default_rng(0)
    rows = {part: rng.uniform(0, 100, size=(400, 2)).astype(np.float32) for part in ("train", "validation", "test")}
    said = {
        part: np.where(each[:, :1] <= 40, 1.0, np.where(each[:, 1:] <= 70, 2.0, 5.0)) for part, each in rows.items()
    }
    features = tuple(Feature(name, "numeric", (), (0.0, 100.0)) for name in ("age", "weight"))

    found = fit_surrogate(rows, said, Signature(features, "regression", "dose"), 0)

    assert (2, 3) == (found["depth"], found["leaves"])
    assert found["fidelity"]["r2"] > 0.97
    assert {"age", "weight"} == {found["root"]["feature"], found["root"]["no"]["feature"]}
    assert "age <= " in tree_as_text(found)
    json.dumps(found, allow_nan=False)


def test_a_tree_for_a_network_that_always_says_the_same_is_one_leaf() -> None:
    rows = {part: np.random.default_rng(0).normal(size=(20, 1)) for part in ("train", "validation", "test")}
    said = {part: np.tile([[0.3, 0.7]], (20, 1)) for part in rows}

    found = fit_surrogate(rows, said, TWO, 0)

    assert (0, 1, "yes") == (found["depth"], found["leaves"], found["root"]["label"])
    assert {"rows": 20, "r2": 1.0, "accuracy": 1.0, "accuracy_of_commonest_label": 1.0} == found["fidelity"]


def linear_network(weights: list[float]) -> Any:
    inputs = keras.Input((len(weights),))
    logit = keras.layers.Dense(1, name="logit")
    model = keras.Model(inputs, keras.layers.Activation("sigmoid", name="output")(logit(inputs)))
    logit.set_weights([np.array(weights, np.float32)[:, None], np.zeros(1, np.float32)])
    return model


def test_small_steps_move_a_linear_network_as_far_as_its_weights_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row falls when its margin is at most the step times the sum of |weight| x spread: here 3 x size."""
    monkeypatch.setattr("models.evaluation.robustness.SECONDS", 1e9)
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(200, 2)) * [1.0, 10.0]).astype(np.float32)
    model = linear_network([1.0, 0.2])
    margins = rows @ np.array([1.0, 0.2])
    targets = (margins > 0).astype(int)
    features = tuple(Feature(name, "numeric", (), (-9.0, 9.0)) for name in ("a", "b"))
    scale = Scale(np.array([1.0, 10.0], np.float32), None, "spreads")

    found = robustness(model, rows, targets, Signature(features, "classification", "y", ("no", "yes")), scale,
                       lambda moved: predict_raw(model, moved), 0)  # fmt: skip

    assert 1.0 == found["attacks"]["unmoved"]
    assert 200 == found["attacks"]["rows"]
    for attack in ("fgsm", "pgd"):
        for line in found["attacks"][attack]:
            assert line["accuracy"] == pytest.approx((np.abs(margins) > 3 * line["size"]).mean(), abs=0.011)
    assert found["noise"]["curve"][-1]["accuracy"] < found["noise"]["curve"][0]["accuracy"]


MIXED = Signature(
    (
        Feature("age", "numeric", (), (0.0, 90.0), nullable=True),
        Feature("city", "categorical", (), (0.0, 2.0), vocabulary=("Bern", "Genf", "Zug")),
        Feature("joined", "date", (), (0.0, 20_000.0)),
    ),
    "classification",
    "y",
    ("no", "yes"),
)


def test_only_quantities_are_moved_by_their_spread() -> None:
    rows = np.array([[1.0, 2.0, 9000.0], [np.nan, 0.0, 9001.0], [5.0, 1.0, 9002.0]], np.float32)

    scale = Scale.of(MIXED, rows)

    assert [2.0, 0.0, 0.0] == scale.size.tolist()
    assert np.isnan((rows + scale.size)[1, 0])


def test_a_tree_names_categories_and_days() -> None:
    rng = np.random.default_rng(0)
    rows = {}
    for part in ("train", "validation", "test"):
        columns = [rng.uniform(0, 90, 300), rng.integers(3, size=300), rng.integers(10_000, 20_000, size=300)]
        rows[part] = np.column_stack(columns).astype(np.float32)
        rows[part][::7, 0] = np.nan
    yes = {
        part: np.where(each[:, 1] < 2, np.where(each[:, 2] <= 15_000, 0.1, 0.8), 0.95) for part, each in rows.items()
    }
    said = {part: np.column_stack([1 - each, each]) for part, each in yes.items()}

    text = tree_as_text(fit_surrogate(rows, said, MIXED, 0))

    assert "city is Bern or Genf?" in text
    assert "joined <= 2011-01-" in text
    assert "yes (0.95)" in text


def test_boosting_takes_categories_and_missing_values() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(0, 90, 200), rng.integers(3, size=200), rng.integers(10_000, 20_000, size=200)])
    rows = rows.astype(np.float32)
    targets = (rows[:, 1] == 1).astype(np.int64)
    rows[::9, 0] = np.nan

    found = gradient_boosting(rows, targets, rows, MIXED, 0)

    assert found.outputs is not None
    assert (found.outputs.argmax(axis=1) == targets).all()


def test_a_temperature_goes_into_probabilities_and_logit_alike() -> None:
    rng = np.random.default_rng(0)
    model = linear_network([3.0, -2.0])
    rows = rng.normal(size=(400, 2)).astype(np.float32)
    targets = (rng.random(400) < 1 / (1 + np.exp(-rows @ np.array([1.0, -0.7])))).astype(np.int64)
    features = tuple(Feature(name, "numeric", (), (-9.0, 9.0)) for name in ("a", "b"))
    signature = Signature(features, "classification", "y", ("no", "yes"))
    before = np.asarray(target_model(model, signature, "logit")(rows))

    temperature = temperature_of(model, rows, targets, predict_raw)
    temper(model, temperature)

    assert 2.0 < temperature < 4.5
    after = np.asarray(target_model(model, signature, "logit")(rows))
    np.testing.assert_allclose(before / temperature, after, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-after[:, 1])), predict_raw(model, rows)[:, 0], rtol=1e-5)
    assert pytest.approx(1.0, abs=0.01) == temperature_of(model, rows, targets, predict_raw)


@pytest.mark.parametrize("name", ["digits_artifact", "breast_cancer_artifact", "diabetes_artifact"])
def test_a_card_holds_the_whole_evaluation(name: str, request: pytest.FixtureRequest) -> None:
    card = request.getfixturevalue(name).card
    evaluation, surrogate = card["evaluation"], card["surrogate"]

    for metric, interval in evaluation["intervals"].items():
        assert interval is None or interval[0] <= evaluation["metrics"][metric] <= interval[1]
    assert evaluation["intervals"]["r2" if card["task"] == "regression" else "accuracy"] is not None
    assert evaluation["baselines"].keys() == {
        "gradient_boosting",
        "mean" if card["task"] == "regression" else "majority",
    }
    assert 0.3 < surrogate["fidelity"]["r2"] <= 1
    attacks = evaluation["robustness"]["attacks"]
    metric = evaluation["robustness"]["metric"]
    worse = attacks["pgd"][-1][metric] - attacks["unmoved"]
    assert worse > 1 if metric == "mae" else worse < -0.02
    assert ("residuals" in evaluation) == (card["task"] == "regression") == ("calibration" not in evaluation)
    if card["task"] == "classification":
        calibration = evaluation["calibration"]
        key = "expected_calibration_error"
        assert calibration["raw"][key] == pytest.approx(evaluation["metrics"][key], abs=1e-5)
        assert not calibration["applied"]
    json.dumps(evaluation, allow_nan=False)


def evaluated(
    model: Any, dataset: Dataset, split: Split, report: Callable[..., None] = lambda *_: None, **asked: Any
) -> Any:
    positive = dataset.signature.labels[1] if len(dataset.signature.labels) == 2 else None
    temperature = 1.0 if dataset.signature.labels else None
    settings = Asked(positive, 0, asked.get("sensitive", {}), temperature)
    return evaluate_version(model, dataset, split, settings, predict_raw, report)


def test_groups_of_an_ignored_column_are_evaluated_and_parts_are_reported(breast_cancer_artifact: Artifact) -> None:
    dataset, split = prepared("breast_cancer")
    reported: list[tuple[str, int, int]] = []

    found, _ = evaluated(
        breast_cancer_artifact.load_keras(),
        dataset,
        split,
        lambda *progress: reported.append(progress),
        sensitive={"mean texture": dataset.columns["mean texture"]},
    )

    assert [(part, place, len(PARTS)) for place, part in enumerate(PARTS)] == reported
    slices = found["slices"]["mean texture"]
    assert len(split.test) == sum(group["rows"] for group in slices["groups"])
    assert 3 == len(slices["cut_at"])
    assert 0 <= slices["demographic_parity"]["difference"] <= 1


@pytest.mark.parametrize("rows", ["two", "one label"])
def test_a_test_part_of_two_rows_or_one_label_is_evaluated_in_json(rows: str, breast_cancer_artifact: Artifact) -> None:
    dataset, split = prepared("breast_cancer")
    benign = split.test[dataset.targets[split.test] == 1]
    few = Split(split.train, split.validation, split.test[:2] if rows == "two" else benign)

    found, surrogate = evaluated(breast_cancer_artifact.load_keras(), dataset, few)

    json.dumps([found, surrogate], allow_nan=False)
    if rows == "two":
        assert any(words.startswith("The test part has 2 rows") for words in found["warnings"])
    else:
        assert found["metrics"]["roc_auc"] is None
        assert f"roc_auc is not defined: all {len(benign)} rows have the label 'benign'." in found["warnings"]


def test_a_temperature_that_is_asked_for_is_served(tmp_path: Any) -> None:
    from models.artifact import open_artifact
    from models.building import Reporter, build_version

    spec = parse_spec(
        {
            "model": "m",
            "dataset": {"builtin": "iris"},
            "architecture": {"type": "mlp", "layers": [4]},
            "training": {"epochs": 3, "calibration": "temperature"},
            "sensitive": ["sepal width (cm)"],
            "features": {"sepal width (cm)": "ignore"},
        }
    )

    card = build_version(spec, tmp_path / "version", Reporter())

    dataset, split = prepared("iris", ignored=["sepal width (cm)"])
    version = open_artifact(tmp_path / "version")
    outputs = target_columns(
        predict_raw(version.load_keras(), dataset.inputs[split.test]), version.signature, "probability"
    )
    own = outputs[np.arange(len(split.test)), dataset.targets[split.test]]
    calibration = card["evaluation"]["calibration"]
    assert calibration["applied"]
    assert calibration["calibrated"]["log_loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)
    assert abs(calibration["raw"]["log_loss"] - calibration["calibrated"]["log_loss"]) > 1e-3
    assert ["sepal width (cm)"] == list(card["evaluation"]["slices"])
    assert version.onnx_path is not None


def test_a_metric_of_which_less_is_better_has_a_gate_of_its_own() -> None:
    gates = {"min": {"roc_auc": 0.9}, "max": {"log_loss": 0.5, "brier": 0.1}}
    spec = parse_spec({"model": "m", "dataset": {"builtin": "breast_cancer"}, "gates": gates})

    metrics = {"roc_auc": None, "log_loss": 0.5, "brier": 0.2}
    intervals = {"roc_auc": None, "log_loss": [0.4, 0.6], "brier": [0.1, 0.3]}
    found = list(judge_limits(spec.gates, {"rows": 10, "metrics": metrics, "intervals": intervals}))

    assert [("roc_auc", False), ("log_loss", True), ("brier", False)] == [(g["gate"], g["passed"]) for g in found]


@pytest.mark.parametrize(
    ("keys", "pointer", "words"),
    [
        ({"gates": {"min": {"log_loss": 1}}}, "#/gates/min/log_loss", "belongs in gates.max"),
        ({"gates": {"max": {"accuracy": 1}}}, "#/gates/max/accuracy", "belongs in gates.min"),
        ({"gates": {"max": {"r2": 1}}}, "#/gates/max/r2", "unknown metric"),
        ({"sensitive": ["height"]}, "#/sensitive/0", "unknown name"),
        ({"sensitive": ["hue", "hue"]}, "#/sensitive/1", "'hue'"),
    ],
)
def test_what_does_not_fit_an_evaluation_is_refused_by_name(keys: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        parse_spec({"model": "m", "dataset": {"builtin": "wine"}, **keys})

    (fault,) = raised.value.faults
    assert (pointer, True) == (fault.pointer, words in fault.received)


@pytest.mark.parametrize(
    ("builtin", "keys", "pointer"),
    [
        ("digits", {"sensitive": ["image"]}, "#/sensitive/0"),
        ("diabetes", {"training": {"calibration": "temperature"}}, "#/training/calibration"),
    ],
)
def test_groups_of_images_and_the_calibration_of_values_are_refused(
    builtin: str, keys: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidSpec) as raised:
        parse_spec({"model": "m", "dataset": {"builtin": builtin}, **keys})

    assert [pointer] == [fault.pointer for fault in raised.value.faults]


def prepared(builtin: str, ignored: Any = ()) -> tuple[Dataset, Split]:
    dataset = load_builtin(builtin, ignored)
    return dataset, split_dataset(dataset, test=0.2, validation=0.2)


def distribution(outputs: Any, truth: Any, signature: Signature) -> Distribution:
    metrics = weighted_metrics(outputs, truth, signature, signature.labels[1])
    return Distribution.of(metrics, Resampling.draw(len(truth)))
