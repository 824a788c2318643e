"""Gates `min` and `max`: a metric of the test part on the right side of a limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.gates.gate import Verdict
from models.spec.gating import GatesSpec


def judge_limits(gates: GatesSpec, evaluation: Mapping[str, Any]) -> Iterator[Verdict]:
    """A verdict for each limited metric, named by it."""
    metrics, rows = evaluation["metrics"], evaluation["rows"]
    for name, limit in gates.min.items():
        yield _verdict(name, "min", metrics[name], limit, rows, passed=metrics[name] >= limit)
    for name, limit in gates.max.items():
        yield _verdict(name, "max", metrics[name], limit, rows, passed=metrics[name] <= limit)


def _verdict(name: str, kind: str, value: float, limit: float, rows: int, *, passed: bool) -> Verdict:
    return {"gate": name, "kind": kind, "passed": passed, "value": value, "limit": limit, "rows": rows}
