"""What a version must pass before an alias moves to it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from models.errors import Fault, pointer
from models.evaluation.names import LESS_IS_BETTER, METRICS, MORE_IS_BETTER
from models.facts import DataFacts
from models.spec.part import Part


class GatesSpec(Part):
    min: dict[str, float] = Field(default={}, description="by metric, what it must reach")
    max: dict[str, float] = Field(default={}, description="by metric of which less is better, what it may reach")


def gate_misfits(gates: GatesSpec, facts: DataFacts) -> Iterator[Fault]:
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
