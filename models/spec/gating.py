"""What a version must pass before an alias moves to it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from models.errors import Fault, pointer
from models.facts import DataFacts
from models.spec.part import Part

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "precision", "recall", "f1"),
    "regression": ("mae", "mse", "r2"),
}


class GatesSpec(Part):
    min: dict[str, float] = Field(default={})


def gate_misfits(gates: GatesSpec, facts: DataFacts) -> Iterator[Fault]:
    """Where a gate asks for what the task does not have."""
    for name in gates.min:
        if name not in METRICS[facts.task]:
            expected = f"a metric of a {facts.task}: {', '.join(METRICS[facts.task])}"
            yield Fault(pointer("gates", "min", name), expected, "an unknown metric")
