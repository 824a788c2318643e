"""The three demo models that `vitrine up --demo` trains, on scikit-learn's bundled data."""

from __future__ import annotations

from typing import Any

DEMO_SPECS: dict[str, dict[str, Any]] = {
    "digits": {
        "model": "digits",
        "dataset": {"builtin": "digits"},
        "architecture": {"type": "cnn", "layers": [32, 64]},
        "regularization": {"dropout": 0.4},
        "training": {"learning_rate": 0.002, "epochs": 22, "batch_size": 64, "early_stopping": {"patience": 8}},
    },
    "breast-cancer": {
        "model": "breast-cancer",
        "dataset": {"builtin": "breast_cancer"},
        "architecture": {"type": "mlp", "layers": [32, 16]},
        "regularization": {"l2": 0.001},
        "training": {"epochs": 60, "early_stopping": {"patience": 8}},
    },
    "diabetes": {
        "model": "diabetes",
        "dataset": {"builtin": "diabetes"},
        "architecture": {"type": "mlp", "layers": [32, 16], "activation": "tanh"},
        "regularization": {"dropout": 0.1, "l2": 0.03},
        "training": {"learning_rate": 0.005, "epochs": 40, "early_stopping": {"patience": 12}},
    },
}
"""Bodies of `POST /train`, by model name. `make bench` measures what they reach."""
