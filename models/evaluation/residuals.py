"""Where a regression errs: the residuals as a whole, and by how large the prediction is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
PARTS = 10


def residual_summary(values: NDArray[Any], targets: NDArray[Any]) -> dict[str, Any]:
    """Residuals are truth minus prediction, in the target's units.

    Args:
        values, targets: `(n_rows,)`.

    Returns:
        Mean, standard deviation, quantiles, and a line for each tenth of the rows by prediction (fewer lines where
        there are fewer rows).
    """
    predicted, truth = values.astype(np.float64), targets.astype(np.float64)
    residuals = truth - predicted
    order = np.argsort(predicted, kind="stable")
    return {
        "mean": float(residuals.mean()),
        "standard_deviation": float(residuals.std()),
        "quantiles": {f"{part:g}": float(np.quantile(residuals, part)) for part in QUANTILES},
        "by_prediction": [
            {
                "from": float(predicted[part].min()),
                "to": float(predicted[part].max()),
                "rows": len(part),
                "mean_prediction": float(predicted[part].mean()),
                "mean_truth": float(truth[part].mean()),
                "mae": float(np.abs(residuals[part]).mean()),
            }
            for part in np.array_split(order, min(PARTS, len(order)))
        ],
    }
