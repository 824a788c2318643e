"""Which metrics there are, by task, and whether more of one is better."""

from __future__ import annotations

from models.signature import Task

MORE_IS_BETTER: dict[Task, tuple[str, ...]] = {
    "classification": (
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "f1",
        "macro_precision",
        "macro_recall",
        "macro_f1",
        "roc_auc",
        "pr_auc",
    ),
    "regression": ("r2",),
}
LESS_IS_BETTER: dict[Task, tuple[str, ...]] = {
    "classification": ("log_loss", "brier", "expected_calibration_error"),
    "regression": ("mae", "mse", "rmse"),
}
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": MORE_IS_BETTER["classification"] + LESS_IS_BETTER["classification"],
    "regression": MORE_IS_BETTER["regression"] + LESS_IS_BETTER["regression"],
}


def more_is_better(metric: str) -> bool:
    return any(metric in names for names in MORE_IS_BETTER.values())
