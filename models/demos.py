"""The three demo models that `vitrine up --demo` trains, on scikit-learn's bundled data."""

from __future__ import annotations

from typing import Any

DEMO_SPECS: dict[str, dict[str, Any]] = {
    "digits": {
        "model": "digits",
        "dataset": {"builtin": "digits"},
        "architecture": {"type": "cnn", "layers": [16, 32]},
        "training": {"epochs": 30},
    },
    "breast-cancer": {"model": "breast-cancer", "dataset": {"builtin": "breast_cancer"}},
    "diabetes": {
        "model": "diabetes",
        "dataset": {"builtin": "diabetes"},
        "architecture": {"type": "mlp", "layers": [32]},
        "training": {"epochs": 150, "early_stopping": {"patience": 20}},
    },
}
"""Bodies of `POST /train`, by model name."""
