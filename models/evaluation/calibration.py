"""Whether probabilities come true, what a calibrated model would show, and the temperature that mends it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from models.evaluation.bins import N_BINS, calibration_bins

MAX_ROWS = 10_000
SIMULATIONS = 1000
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.1, 10.0
"""Where a validation part without an error would otherwise ask for certainty."""


def fit_temperature(logits: NDArray[Any], targets: NDArray[np.int64]) -> float:
    """The temperature by which logits are divided for the least log loss (Guo et al. 2017, section 4.2).

    Args:
        logits: `(n_rows, n_network_outputs)`, of the last linear layer; one unit speaks for label 1.
        targets: `(n_rows,)`, class indices.
    """
    values = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        if scaled.shape[1] == 1:
            return -float(log_expit(np.where(targets == 1, scaled[:, 0], -scaled[:, 0])).mean())
        return -float(log_softmax(scaled, axis=1)[np.arange(len(targets)), targets].mean())

    bounds = (np.log(LEAST_TEMPERATURE), np.log(MOST_TEMPERATURE))
    found: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def probabilities_at(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """`(n_rows, n_labels)`: the probabilities of logits divided by a temperature."""
    scaled = logits.astype(np.float64) / temperature
    if scaled.shape[1] == 1:
        return np.column_stack([expit(-scaled[:, 0]), expit(scaled[:, 0])])
    return softmax(scaled, axis=1)


def reliability_curve(probabilities: NDArray[Any], came_true: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Per bin that holds rows: its ends, its rows, the mean probability, and the part that came true.

    Args:
        probabilities: `(n_rows,)`.
        came_true: `(n_rows,)`.
    """
    bins = calibration_bins(probabilities.astype(np.float64))
    counts = bins.sum(axis=0)
    sums, hits = probabilities @ bins, came_true.astype(np.float64) @ bins
    return [
        {
            "from": i / N_BINS,
            "to": (i + 1) / N_BINS,
            "rows": int(counts[i]),
            "mean_probability": float(sums[i] / counts[i]),
            "came_true": float(hits[i] / counts[i]),
        }
        for i in range(N_BINS)
        if counts[i]
    ]


def expected_when_calibrated(probabilities: NDArray[Any], observed: float, seed: int) -> dict[str, Any]:
    """What calibration error a model with these probabilities would show if they were right.

    The error of few rows is above 0 even then: outcomes are drawn from the probabilities themselves (consistency
    resampling, Broecker and Smith 2007).

    Args:
        probabilities: `(n_rows,)`, of the predicted label.
        observed: the calibration error found.

    Returns:
        The mean of the simulated errors, their 95th percentile, and the part that reaches the observed one: below
        0.05, there is evidence that the probabilities are wrong.
    """
    rng = np.random.default_rng(seed)
    values = probabilities.astype(np.float64)
    bins = calibration_bins(values)
    errors = []
    for _ in range(0, SIMULATIONS, 50):
        drawn = (rng.random((50, len(values))) < values) - values
        errors.append(np.abs(drawn @ bins).sum(axis=1) / len(values))
    simulated = np.concatenate(errors)
    return {
        "mean": float(simulated.mean()),
        "percentile_95": float(np.quantile(simulated, 0.95)),
        "p_value": float(((simulated >= observed).sum() + 1) / (SIMULATIONS + 1)),
    }
