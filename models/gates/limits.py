"""Gates on figures of the evaluation: a metric, the calibration error, differences between groups, and their limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.gates.gate import Verdict
from models.spec.gating import CalibrationGate, FairnessGate, GatesSpec

CALIBRATION_ERROR = "expected_calibration_error"


def judge_limits(gates: GatesSpec, evaluation: Mapping[str, Any]) -> Iterator[Verdict]:
    """A verdict for each limited metric, named by it. A metric that is not defined passes none."""
    for name, limit in gates.min.items():
        value = evaluation["metrics"][name]
        yield _of_metric(name, "min", name, limit, evaluation, passed=value is not None and value >= limit)
    for name, limit in gates.max.items():
        value = evaluation["metrics"][name]
        yield _of_metric(name, "max", name, limit, evaluation, passed=value is not None and value <= limit)


def judge_calibration(gate: CalibrationGate, evaluation: Mapping[str, Any]) -> Verdict:
    error = evaluation["metrics"][CALIBRATION_ERROR]
    passed = error is not None and error <= gate.max_error
    return _of_metric("calibration", "calibration", CALIBRATION_ERROR, gate.max_error, evaluation, passed=passed)


def judge_fairness(gate: FairnessGate, evaluation: Mapping[str, Any]) -> Iterator[Verdict]:
    """A verdict for each sensitive column. Where groups are too few or too small to compare, it passes and says so."""
    for feature, found in evaluation["slices"].items():
        said: Verdict = {"gate": f"fairness of {feature}", "kind": "fairness", "limit": gate.max_difference}
        said |= {"rows": sum(group["rows"] for group in found["groups"])}
        if found["differences"] is None:
            yield {**said, "passed": True, "value": None, "words": f"Not compared: {found['reason']}."}
            continue
        if gate.of == "selection-rate":
            measured = found["demographic_parity"]
            words = f"how often {found['label']} is predicted, between the groups that are furthest apart"
        else:
            # Of accuracies the difference is that of errors.
            measured = found["differences"].get("accuracy") or found["differences"]["mae"]
            words = "the error, between the groups that are furthest apart"
        value = measured["difference"]
        yield {
            **said,
            "passed": value is None or value <= gate.max_difference,
            "value": value,
            "interval": measured.get("interval"),
            "words": words,
        }


def _of_metric(
    gate: str, kind: str, metric: str, limit: float, evaluation: Mapping[str, Any], *, passed: bool
) -> Verdict:
    return {
        "gate": gate,
        "kind": kind,
        "passed": passed,
        "value": evaluation["metrics"][metric],
        "limit": limit,
        "interval": evaluation["intervals"][metric],
        "rows": evaluation["rows"],
    }
