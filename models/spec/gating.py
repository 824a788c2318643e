"""What a version must pass before an alias moves to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from models.errors import Fault, pointer
from models.evaluation.names import LESS_IS_BETTER, METRICS, MORE_IS_BETTER
from models.facts import DataFacts
from models.spec.part import Part


class ChampionGate(Part):
    """Fails where the version is worse than the champion by more than `margin`, with at least this probability."""

    metric: Annotated[str, Field(description=f"one of {', '.join(sum(METRICS.values(), ()))}")]
    margin: Annotated[float, Field(ge=0, description="in units of the metric")] = 0.0
    probability: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class FidelityGate(Part):
    """Explanations of so many test rows are checked: fewer where each costs more, unless a number is given."""

    rows: Annotated[int | None, Field(ge=2, le=256)] = None


class CalibrationGate(Part):
    max_error: Annotated[float, Field(gt=0, lt=1, description="expected calibration error")]


class FairnessGate(Part):
    """Between the groups of each column of `sensitive`: how far the two that are furthest apart may be."""

    max_difference: Annotated[float, Field(gt=0, description="a rate, or for errors of a regression target units")]
    of: Annotated[
        Literal["selection-rate", "error"],
        Field(description="how often the positive label is given, or how often a wrong one (regression: mean error)"),
    ] = "selection-rate"


class LatencyGate(Part):
    p50_ms: Annotated[float, Field(gt=0, description="median time of the prediction of one row")]


def _named(metric: Any) -> Any:
    return {"metric": metric} if isinstance(metric, str) else metric


def _switched(switch: Any) -> Any:
    return ({} if switch else None) if isinstance(switch, bool) else switch


class GatesSpec(Part):
    min: dict[str, float] = Field(default={}, description="by metric, what it must reach")
    max: dict[str, float] = Field(default={}, description="by metric of which less is better, what it may reach")
    not_worse_than_champion: Annotated[
        ChampionGate | None, BeforeValidator(_named), Field(description="or the name of a metric alone")
    ] = None
    fidelity: Annotated[FidelityGate | None, BeforeValidator(_switched), Field(description="or true")] = None
    calibration: CalibrationGate | None = None
    fairness: FairnessGate | None = None
    latency: LatencyGate | None = None


def gate_misfits(gates: GatesSpec, facts: DataFacts, sensitive: Sequence[str]) -> Iterator[Fault]:
    """Where a gate asks for what the task does not have."""
    for key, limits, held, other in (
        ("min", gates.min, MORE_IS_BETTER[facts.task], "max"),
        ("max", gates.max, LESS_IS_BETTER[facts.task], "min"),
    ):
        for name in limits:
            if name in held:
                continue
            expected = f"a metric of a {facts.task}: {', '.join(held)}"
            received = (
                f"{name!r}, which belongs in gates.{other}" if name in METRICS[facts.task] else "an unknown metric"
            )
            yield Fault(pointer("gates", key, name), expected, received)
    compared = gates.not_worse_than_champion
    if compared and compared.metric not in METRICS[facts.task]:
        expected = f"one of {', '.join(METRICS[facts.task])}"
        yield Fault("#/gates/not_worse_than_champion", expected, f"the string {compared.metric!r}")
    if gates.calibration and facts.task != "classification":
        yield Fault("#/gates/calibration", "null for a regression, which gives no probabilities", "an object")
    if gates.fairness and not sensitive:
        yield Fault("#/gates/fairness", "null, or columns in `sensitive` by whose groups it is judged", "an object")
    if gates.fairness and gates.fairness.of == "selection-rate" and facts.task != "classification":
        yield Fault("#/gates/fairness/of", "'error' for a regression, which selects nothing", "'selection-rate'")
