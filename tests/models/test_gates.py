"""Gates: what passes, what fails, and what is said with it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from candidates import NO_FILES, candidate_of
from numpy.typing import NDArray

from models.artifact import CARD, SIGNATURE, Artifact, open_artifact, writing
from models.datasets import Dataset, Split, load_builtin, split_dataset
from models.errors import InvalidDataset
from models.evaluation.groups import groups_of
from models.evaluation.slices import slice_by
from models.gates.again import judge_again
from models.gates.fidelity import judge_fidelity
from models.gates.gate import Champion, Outputs, outputs_of
from models.gates.latency import judge_latency, machine
from models.gates.limits import judge_calibration, judge_fairness, judge_limits
from models.gates.not_worse import NotComparable, inputs_for, judge_champion
from models.signature import Feature, Signature
from models.spec import TrainingSpec, parse_spec
from models.spec.gating import CalibrationGate, FairnessGate, FidelityGate, GatesSpec, LatencyGate

RNG = np.random.default_rng


def evaluated(**metrics: float | None) -> dict[str, Any]:
    return {"rows": 40, "metrics": metrics, "intervals": {name: [0.0, 1.0] for name in metrics}}


def test_limits_pass_at_their_value_and_fail_beyond() -> None:
    gates = GatesSpec(min={"accuracy": 0.9, "f1": 0.8}, max={"log_loss": 0.5, "brier": 0.2})

    verdicts = list(judge_limits(gates, evaluated(accuracy=0.9, f1=0.79, log_loss=0.5, brier=0.21)))

    common = {"interval": [0.0, 1.0], "rows": 40}
    assert verdicts == [
        {"gate": "accuracy", "kind": "min", "passed": True, "value": 0.9, "limit": 0.9, **common},
        {"gate": "f1", "kind": "min", "passed": False, "value": 0.79, "limit": 0.8, **common},
        {"gate": "log_loss", "kind": "max", "passed": True, "value": 0.5, "limit": 0.5, **common},
        {"gate": "brier", "kind": "max", "passed": False, "value": 0.21, "limit": 0.2, **common},
    ]


def test_a_metric_that_is_not_defined_passes_no_limit() -> None:
    (verdict,) = judge_limits(GatesSpec(min={"roc_auc": 0.5}), evaluated(roc_auc=None))

    assert (False, None) == (verdict["passed"], verdict["value"])


@pytest.mark.parametrize(("error", "passed"), [(0.05, True), (0.051, False)])
def test_calibration_is_the_evaluation_s_error_held_against_its_limit(error: float, passed: bool) -> None:
    verdict = judge_calibration(CalibrationGate(max_error=0.05), evaluated(expected_calibration_error=error))

    assert (passed, error, 0.05, [0.0, 1.0]) == tuple(
        verdict[name] for name in ("passed", "value", "limit", "interval")
    )


# -- groups ----------------------------------------------------------------------------------------------------------

GROUPS = groups_of(np.repeat([0.0, 1.0], 40), np.arange(80), np.arange(80))
TRUTH = np.tile([0, 1], 40)


def sliced(predicted: NDArray[Any]) -> dict[str, Any]:
    """The evaluation of a model that is sure of itself, by the two groups of `sex`."""
    signature = Signature((Feature("sex", "numeric", (), (0.0, 1.0)),), "classification", "y", ("no", "yes"))
    found = slice_by(GROUPS, np.eye(2)[predicted], TRUTH, signature, "yes", seed=0)
    return {"slices": {"sex": found}}


def test_fairness_is_the_largest_difference_of_selection_rates_or_of_errors() -> None:
    predicted = TRUTH.copy()
    predicted[:20] = 1  # ten rows of the first group that should be "no"
    evaluation = sliced(predicted)

    def verdict(of: Any, limit: float) -> dict[str, Any]:
        (found,) = judge_fairness(FairnessGate(max_difference=limit, of=of), evaluation)
        return found

    for of in ("selection-rate", "error"):
        strict, lenient = verdict(of, 0.2), verdict(of, 0.3)
        assert (False, True) == (strict["passed"], lenient["passed"])
        assert ("fairness of sex", 0.25, 80) == (strict["gate"], pytest.approx(strict["value"]), strict["rows"])
        assert strict["interval"][0] < 0.25 < strict["interval"][1]


def test_groups_too_small_to_compare_are_no_evidence_of_unfairness() -> None:
    found = {"groups": [{"rows": 3}], "differences": None, "reason": "fewer than two groups have 10 rows"}

    (verdict,) = judge_fairness(FairnessGate(max_difference=0.1), {"slices": {"sex": found}})

    assert (True, "Not compared: fewer than two groups have 10 rows.") == (verdict["passed"], verdict["words"])


# -- not worse than the champion -------------------------------------------------------------------------------------


def data_of(artifact: Artifact, **gates: Any) -> tuple[TrainingSpec, Dataset, Split]:
    """The data of a version, under its specification with other gates."""
    spec = parse_spec({**artifact.card["spec"], "gates": gates})
    assert spec.dataset.builtin is not None
    dataset = load_builtin(spec.dataset.builtin)
    return spec, dataset, split_dataset(dataset, test=spec.split.test, validation=spec.split.validation)


def judged(artifact: Artifact, champion: Champion | None, outputs: Outputs | None = None, **gate: Any) -> dict:
    spec, dataset, split = data_of(artifact, not_worse_than_champion={"metric": "mae", **gate})
    found = outputs_of(artifact)(dataset.inputs[split.test]) if outputs is None else outputs
    return judge_champion(spec, dataset, split, found, champion)


def changed_copy(artifact: Artifact, folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """A version whose card and signature were written otherwise."""
    with writing(folder / "version") as aside:
        for name in artifact.hashes:
            shutil.copy(artifact.directory / name, aside / name)
        card, signature = (json.loads((aside / name).read_bytes()) for name in (CARD, SIGNATURE))
        change(card, signature)
        (aside / CARD).write_text(json.dumps(card))
        (aside / SIGNATURE).write_text(json.dumps(signature))
    return folder / "version"


def test_without_a_champion_it_passes_and_says_so(diabetes_artifact: Artifact) -> None:
    verdict = judged(diabetes_artifact, None)

    assert (True, None, 0) == (verdict["passed"], verdict["champion"], verdict["rows"])
    assert "There is no champion yet." == verdict["words"]


def test_the_champion_itself_is_not_worse(diabetes_artifact: Artifact) -> None:
    verdict = judged(diabetes_artifact, Champion(3, diabetes_artifact.directory))

    assert verdict["passed"]
    assert (3, 0.0, 0.0, [0.0, 0.0]) == (
        verdict["champion"],
        verdict["difference"],
        verdict["probability"],
        verdict["interval"],
    )
    assert diabetes_artifact.card["evaluation"]["metrics"]["mae"] == pytest.approx(verdict["limit"], rel=1e-5)
    assert diabetes_artifact.card["evaluation"]["rows"] == verdict["rows"]


def test_a_version_that_knows_nothing_is_worse_with_certainty(diabetes_artifact: Artifact) -> None:
    _, dataset, split = data_of(diabetes_artifact)
    nothing = np.full((len(split.test), 1), 1000.0)

    verdict = judged(diabetes_artifact, Champion(1, diabetes_artifact.directory), nothing)

    assert not verdict["passed"]
    assert 1.0 == verdict["probability"]
    assert verdict["interval"][1] < verdict["difference"] + 20 < 0
    assert verdict["value"] == pytest.approx(np.abs(1000 - dataset.targets[split.test]).mean())


def test_a_little_worse_is_allowed_within_the_margin(diabetes_artifact: Artifact) -> None:
    _, dataset, split = data_of(diabetes_artifact)
    theirs = outputs_of(diabetes_artifact)(dataset.inputs[split.test])
    truth = dataset.targets[split.test, np.newaxis]
    worse = theirs + 3 * np.sign(theirs - truth)
    champion = Champion(1, diabetes_artifact.directory)

    strict = judged(diabetes_artifact, champion, worse)
    lenient = judged(diabetes_artifact, champion, worse, margin=5)

    assert (False, True) == (strict["passed"], lenient["passed"])
    assert -3 == pytest.approx(strict["difference"], abs=1e-3)


def test_a_difference_by_chance_is_no_evidence(diabetes_artifact: Artifact) -> None:
    _, dataset, split = data_of(diabetes_artifact)
    theirs = outputs_of(diabetes_artifact)(dataset.inputs[split.test])
    noise = RNG(0).normal(scale=0.5, size=theirs.shape)

    verdict = judged(diabetes_artifact, Champion(1, diabetes_artifact.directory), theirs + noise)

    assert verdict["passed"]
    assert 0.05 < verdict["probability"] < 0.95
    assert verdict["interval"][0] < 0 < verdict["interval"][1]


def test_only_rows_that_were_test_rows_for_both_are_compared(diabetes_artifact: Artifact, tmp_path: Path) -> None:
    def smaller(card: dict[str, Any], _signature: dict[str, Any]) -> None:
        card["spec"]["split"]["test"] = 0.1

    directory = changed_copy(diabetes_artifact, tmp_path, smaller)

    verdict = judged(diabetes_artifact, Champion(1, directory))

    _, dataset, split = data_of(diabetes_artifact)
    both = split_dataset(dataset, test=0.1, validation=0.2).test
    assert set(both) < set(split.test)
    assert len(both) == verdict["rows"]


def test_a_champion_that_ignored_columns_and_has_others_in_order_is_given_its_own(
    diabetes_artifact: Artifact, tmp_path: Path
) -> None:
    from models.building import Reporter, build_version

    ignoring = {"features": {"age": "ignore", "s3": "ignore"}, "training": {"epochs": 2}}
    document = {"model": "m", "dataset": {"builtin": "diabetes"}, "architecture": {"type": "mlp", "layers": [4]}}
    build_version(parse_spec({**document, **ignoring}), tmp_path / "champion", Reporter())

    verdict = judged(diabetes_artifact, Champion(1, tmp_path / "champion"))

    theirs = open_artifact(tmp_path / "champion").card["evaluation"]["metrics"]["mae"]
    assert theirs == pytest.approx(verdict["limit"], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _card, signature: signature.update(target="weight"), "expected its target 'progression'"),
        (lambda _card, signature: signature["features"][0].update(name="years"), "had other columns ('age', 'years')"),
        (lambda card, _signature: card["spec"]["split"].update(test=0.001), "expected at least 10 rows"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_no_evidence_and_words_say_why(
    diabetes_artifact: Artifact, tmp_path: Path, change: Callable[..., None], words: str
) -> None:
    directory = changed_copy(diabetes_artifact, tmp_path, change)

    verdict = judged(diabetes_artifact, Champion(7, directory))

    assert (True, 0, 7) == (verdict["passed"], verdict["rows"], verdict["champion"])
    assert verdict["words"].startswith("Not compared with version 7, the champion: ")
    assert words in verdict["words"]


def test_a_damaged_champion_is_said_with_its_file(diabetes_artifact: Artifact, tmp_path: Path) -> None:
    shutil.copytree(diabetes_artifact.directory, tmp_path / "version")
    (tmp_path / "version" / "model.onnx").write_bytes(b"no model")

    verdict = judged(diabetes_artifact, Champion(7, tmp_path / "version"))

    assert verdict["passed"]
    assert "model.onnx has changed" in verdict["words"]


def test_judged_again_only_the_comparison_is_new(
    diabetes_artifact: Artifact, other_diabetes_artifact: Artifact, tmp_path: Path
) -> None:
    def compares(card: dict[str, Any], _signature: dict[str, Any]) -> None:
        card["spec"]["gates"]["not_worse_than_champion"] = {"metric": "mae", "margin": 0.0, "probability": 0.95}

    version = open_artifact(changed_copy(diabetes_artifact, tmp_path, compares))
    held = {"gate": "r2", "kind": "min", "passed": True, "value": 0.5, "limit": 0.1}
    first = {"gate": "not_worse_than_champion", "passed": True, "champion": None}

    again = judge_again(version, [held, first], Champion(2, other_diabetes_artifact.directory), NO_FILES)
    unchanged = judge_again(version, [held, first], None, NO_FILES)

    assert held == again[0]
    assert (2, diabetes_artifact.card["evaluation"]["rows"]) == (again[1]["champion"], again[1]["rows"])
    assert [held, first] == unchanged


def test_a_version_whose_data_has_changed_is_not_promoted_over_a_champion_it_never_met(
    diabetes_artifact: Artifact, tmp_path: Path
) -> None:
    def changes(card: dict[str, Any], _signature: dict[str, Any]) -> None:
        card["data"]["sha256"] = "0" * 64

    version = open_artifact(changed_copy(diabetes_artifact, tmp_path, changes))
    first = {"gate": "not_worse_than_champion", "passed": True, "champion": None}

    (again,) = judge_again(version, [first], Champion(2, diabetes_artifact.directory), NO_FILES)

    assert (False, 2) == (again["passed"], again["champion"])
    assert "no longer what this version was built from" in again["words"]


def test_rows_are_encoded_for_the_champion_by_its_own_vocabulary_and_order() -> None:
    city = Feature("city", "categorical", (), (0.0, 0.0), vocabulary=("Bern", "Rome"))
    age = Feature("age", "numeric", (), (0.0, 90.0))
    mine = Signature((city, age), "regression", "y")
    theirs = Signature((age, replace(city, vocabulary=("Oslo", "Rome", "Bern"))), "regression", "y")
    columns = {"city": np.array(["Rome", "Bern"], object), "age": np.array([30.0, 60.0])}
    inputs = np.array([[1, 30], [0, 60]], np.float32)
    dataset = Dataset(mine, inputs, np.zeros(2), (b"1", b"2"), columns)

    assert [[30, 1], [60, 2]] == inputs_for(theirs, dataset, np.array([0, 1])).tolist()
    with pytest.raises(InvalidDataset, match="no place for the category 'Bern'"):
        inputs_for(Signature((replace(city, vocabulary=("Rome",)),), "regression", "y"), dataset, np.array([1]))
    with pytest.raises(NotComparable, match="its feature 'age' is boolean, not numeric"):
        inputs_for(Signature((replace(age, kind="boolean"),), "regression", "y"), dataset, np.array([1]))


# -- the others ------------------------------------------------------------------------------------------------------


def test_latency_is_the_median_of_single_rows_and_names_the_machine() -> None:
    rows = np.zeros((5, 3), np.float32)
    seen = []

    def evaluate(row: NDArray[Any]) -> NDArray[Any]:
        seen.append(row.shape)
        return row

    fast = judge_latency(LatencyGate(p50_ms=50), evaluate, rows)
    slow = judge_latency(LatencyGate(p50_ms=1e-9), evaluate, rows)

    assert (True, False) == (fast["passed"], slow["passed"])
    assert 0 < fast["value"] <= fast["p95_ms"]
    assert {(1, 3)} == set(seen)
    assert machine() in fast["words"]


def test_the_machine_is_named_by_its_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Analytical Engine\n")

    assert machine(tmp_path / "cpuinfo").startswith("Analytical Engine, ")


def test_right_explanations_of_columns_pass_the_fidelity_gate(breast_cancer_artifact: Artifact) -> None:
    verdict, report = judge_fidelity(FidelityGate(rows=6), candidate_of(breast_cancer_artifact, fidelity=True))

    assert (True, 0, 0, "kernel", 6) == (
        verdict["passed"],
        verdict["value"],
        verdict["limit"],
        verdict["method"],
        verdict["rows"],
    )
    assert "pass" == report.of("efficiency").verdict
    assert "pass" == report.of("independent-error").verdict


def test_right_explanations_of_images_pass_the_fidelity_gate(digits_artifact: Artifact) -> None:
    verdict, report = judge_fidelity(FidelityGate(rows=3), candidate_of(digits_artifact, fidelity=True))

    assert (True, "expected-gradients", 3) == (verdict["passed"], verdict["method"], verdict["rows"])
    assert "pass" == report.of("independent-error").verdict


def test_wrong_explanations_fail_the_fidelity_gate_and_are_named(
    breast_cancer_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from explain.methods import METHODS
    from models.gates import fidelity

    right = METHODS["kernel"]

    def flipped(work: Any) -> Any:
        estimate = right.run(work)
        return replace(estimate, attributions=-estimate.attributions)

    monkeypatch.setitem(fidelity.METHODS, "kernel", replace(right, run=flipped))

    verdict, report = judge_fidelity(FidelityGate(rows=6), candidate_of(breast_cancer_artifact, fidelity=True))

    assert not verdict["passed"]
    assert 0 < verdict["value"] == sum(finding.verdict == "fail" for finding in report.findings)
    assert "efficiency" in verdict["words"]
