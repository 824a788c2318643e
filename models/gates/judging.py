"""All gates of a version, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from models.gates.fidelity import judge_fidelity
from models.gates.gate import Candidate, Champion, Verdict
from models.gates.latency import judge_latency
from models.gates.limits import judge_calibration, judge_fairness, judge_limits
from models.gates.not_worse import GATE as NOT_WORSE
from models.gates.not_worse import judge_champion
from models.spec.gating import GatesSpec

Tell = Callable[[str, int, int], None]
"""Told of each gate that takes time before it is judged: its name, how many are done, how many there are."""


@dataclass(frozen=True)
class Judgement:
    """`gates` are the verdicts; `fidelity` is the whole report of that gate, where it was asked for."""

    gates: list[Verdict]
    fidelity: dict[str, Any] | None


def judge(candidate: Candidate, champion: Callable[[], Champion | None], tell: Tell = lambda *_: None) -> Judgement:
    """Judges every gate of a specification, whatever the others say; those that only read figures come first."""
    gates = candidate.spec.gates
    verdicts = list(judge_limits(gates, candidate.evaluation))
    if gates.calibration:
        verdicts.append(judge_calibration(gates.calibration, candidate.evaluation))
    if gates.fairness:
        verdicts += judge_fairness(gates.fairness, candidate.evaluation)
    fidelity: dict[str, Any] | None = None
    asked = list(_asked(gates))
    for done, name in enumerate(asked):
        tell(name, done, len(asked))
        if name == NOT_WORSE:
            verdicts.append(
                judge_champion(candidate.spec, candidate.dataset, candidate.split, candidate.outputs, champion())
            )
        if name == "latency" and gates.latency:
            verdicts.append(judge_latency(gates.latency, candidate.evaluate, candidate.test_rows))
        if name == "fidelity" and gates.fidelity:
            verdict, report = judge_fidelity(gates.fidelity, candidate)
            verdicts.append(verdict)
            fidelity = report.to_json()
    return Judgement(verdicts, fidelity)


def _asked(gates: GatesSpec) -> Iterator[str]:
    if gates.not_worse_than_champion:
        yield NOT_WORSE
    if gates.latency:
        yield "latency"
    if gates.fidelity:
        yield "fidelity"
