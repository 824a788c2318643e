"""Job documents in words: how far a job is, and how it ended."""

from __future__ import annotations

from typing import Any

_WATCHED = ("val_accuracy", "val_mae", "val_loss")


def epoch_figures(job: dict[str, Any]) -> dict[str, Any] | None:
    """The epoch figures of a job that is fitting, else None."""
    return job["progress"] if job["step"] == "fitting" and job["status"] == "running" else None


def search_figures(job: dict[str, Any]) -> dict[str, Any] | None:
    """How far the search of a job is while it searches, else None."""
    return job["progress"] if job["step"] == "searching" and job["status"] == "running" else None


def progress_in_words(job: dict[str, Any]) -> str:
    """How far a job is, on one line."""
    figures = epoch_figures(job)
    if figures is not None:
        return figures_in_words(figures)
    if job["status"] == "running" and job["step"] == "evaluating" and "part" in (job["progress"] or {}):
        return f"evaluating: {job['progress']['part']}"
    if (search := search_figures(job)) is not None:
        return _search_in_words(search)
    if job["status"] == "succeeded":
        return f"version {job['version']}"
    if job["status"] == "failed":
        return (job["error"] or {}).get("title", "failed")
    return job["step"] or job["status"] if job["status"] == "running" else job["status"]


def figures_in_words(figures: dict[str, Any]) -> str:
    """Epoch, loss, the watched validation metric and the time left: 80 columns have room for a bar beside it."""
    metrics = figures["metrics"]
    words = [f"fold {figures['fold']}/{figures['folds']}"] if figures.get("fold") else []
    words += [f"epoch {figures['epoch']}/{figures['epochs']}"]
    words += [f"loss {metrics['loss']:.3f}"] if "loss" in metrics else []
    watched = next((name for name in _WATCHED if name in metrics), None)
    words += [f"{watched} {metrics[watched]:.3f}"] if watched else []
    words += [f"{figures['seconds_left']:.0f} s left"] if figures.get("seconds_left") is not None else []
    return "  ".join(words)


def _search_in_words(figures: dict[str, Any]) -> str:
    words = f"trial {figures['done']}/{figures['trials']}"
    if figures.get("best") is not None:
        words += f"  best {figures['metric']} {figures['best']:.4g}"
    return words


def outcome_in_words(job: dict[str, Any]) -> str:
    """How a job that has finished ended, and why."""
    if job["status"] == "cancelled":
        return f"Job {job['job']} was cancelled. Go on with it: vitrine jobs resume {job['job']}"
    if job["status"] == "failed":
        error = job["error"] or {}
        return f"Job {job['job']} failed. {error.get('title', 'No reason given')}: {error.get('detail', '')}"
    words = f"Version {job['version']} of {job['model']}"
    if job["promoted"]:
        return f"{words} is the champion now."
    failed = [gate for gate in job["gates"] if not gate["passed"]]
    if failed:
        figures = ", ".join(f"{gate['gate']} ({_figures(gate)})" for gate in failed)
        return f"{words} is registered, and was not promoted: it failed {figures}."
    return f"{words} is registered, and was not promoted: the specification says so, or another was newer."


def _figures(gate: dict[str, Any]) -> str:
    value, limit = gate.get("value"), gate.get("limit")
    return f"{_number(value)}, limit {_number(limit)}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
