"""Gate `latency`: how long the prediction of one row takes, on the machine that trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from models.cores import usable_cores
from models.gates.gate import Outputs, Verdict
from models.rows import ModelInput
from models.spec.gating import LatencyGate

WARM_UP_CALLS = 20
CALLS = 300


def judge_latency(gate: LatencyGate, evaluate: Callable[[ModelInput], Outputs], rows: ModelInput) -> Verdict:
    """Times single rows, one after the other: the median is `value`, in milliseconds.

    Args:
        rows: `(n_rows, *input_shape)`, taken in turn.
    """
    times = np.array([_milliseconds(evaluate, rows[i % len(rows)][np.newaxis]) for i in range(WARM_UP_CALLS + CALLS)])
    p50, p95 = (float(value) for value in np.quantile(times[WARM_UP_CALLS:], [0.5, 0.95]))
    return {
        "gate": "latency",
        "kind": "latency",
        "passed": p50 <= gate.p50_ms,
        "value": p50,
        "limit": gate.p50_ms,
        "p95_ms": p95,
        "rows": CALLS,
        "words": f"median milliseconds of the engine for one row, on {machine()}",
    }


def machine(processors: Path = Path("/proc/cpuinfo")) -> str:
    """The processor of this machine and how many of its cores this process may use, in words."""
    try:
        lines = processors.read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cores = usable_cores()
    return f"{next(named, os.uname().machine)}, {cores} core{'s' if cores > 1 else ''}"


def _milliseconds(evaluate: Callable[[ModelInput], Outputs], row: ModelInput) -> float:
    started = perf_counter()
    evaluate(row)
    return (perf_counter() - started) * 1000
