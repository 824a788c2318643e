"""How well a version predicts rows that it has never seen, and what that is worth. A file for each subject."""

from models.evaluation.figures import evaluate

__all__ = ["evaluate"]
