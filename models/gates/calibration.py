"""Gate `calibration`: probabilities that are as often right as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.gates.gate import Outputs, Verdict
from models.spec.gating import CalibrationGate

BINS = 15
BOOTSTRAPS = 1000


def calibration_error(outputs: Outputs, targets: NDArray[Any]) -> float:
    """The expected calibration error of the predicted labels (Guo et al. 2017, "On calibration of modern neural
    networks", eq. 3), in 15 bins of equal width.

    Args:
        outputs: `(n_rows, n_labels)`, probabilities.
        targets: `(n_rows,)`, class indices.
    """
    confidence, right = outputs.max(axis=1).astype(np.float64), outputs.argmax(axis=1) == targets
    # Bins are open below and closed above: (0, 1/15], ...
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(targets))


def judge_calibration(gate: CalibrationGate, outputs: Outputs, targets: NDArray[Any], seed: int) -> Verdict:
    error = calibration_error(outputs, targets)
    rng = np.random.default_rng(seed)
    redrawn = []
    for _ in range(BOOTSTRAPS):
        rows = rng.integers(len(targets), size=len(targets))
        redrawn.append(calibration_error(outputs[rows], targets[rows]))
    low, high = np.quantile(redrawn, [0.025, 0.975])
    return {
        "gate": "calibration",
        "kind": "calibration",
        "passed": error <= gate.max_error,
        "value": error,
        "limit": gate.max_error,
        "interval": [float(low), float(high)],
        "rows": len(targets),
        "words": f"expected calibration error of the predicted label, in {BINS} bins of equal width",
    }
