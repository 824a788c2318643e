"""One trial of a search, from what it draws to how well it predicts the validation part. It runs in a trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from pydantic import ValidationError

from models.datasets import Dataset, Split, split_dataset
from models.epochs import EpochReport
from models.errors import LossNotFinite
from models.evaluation import evaluate
from models.evaluation.names import more_is_better
from models.loading import load_dataset
from models.outputs import target_columns
from models.search.study import draw, falls_behind
from models.search.trials import State, Trial, Trials
from models.sources.folder import DataFolder
from models.spec import TrainingSpec
from models.spec.proposal import proposed
from models.spec.search import SearchSpec, whole_keys
from models.training import FittedModel, fit, predict_raw

REPORT_SECONDS = 0.5
"""Epochs that are shorter are not each written down, nor judged."""


class _GivenUp(Exception):
    """A trial that has fallen behind the others."""


def try_out(
    spec: TrainingSpec,
    trials: Trials,
    number: int,
    *,
    checkpoints: Path,
    fence: Callable[[], None] = lambda: None,
    data: DataFolder | None = None,
) -> State | Literal["skipped"]:
    """Runs one trial to its end, and writes down how it ended.

    A trial whose values cannot stand together, or whose loss is not finite, has failed: the search goes on without it.
    One that was killed goes on from its checkpoint with what it had drawn.

    Args:
        checkpoints: a folder for this trial alone.
        fence: raises when another attempt has overtaken this one.
        data: where files are found; built-in data needs none.
    """
    search = spec.search
    assert search is not None
    assert search.metric is not None  # parse_spec fills it in
    whole = whole_keys(search, spec.model_dump(mode="json"))
    maximize = more_is_better(search.metric)
    if is_over(search, trials.all(), number, datetime.now(UTC)):
        return "skipped"
    trial = trials.begin(number, lambda held: draw(search, whole, held, seed=spec.training.seed, maximize=maximize))
    if trial.state != "running":
        return trial.state
    began, written = monotonic(), [monotonic()]

    def judge(report: EpochReport) -> None:
        last = report.epoch == report.epochs
        if not last and monotonic() - written[0] < REPORT_SECONDS:
            return
        trials.report(number, report.validation_errors)
        written[0] = monotonic()
        if search.pruning and not last and falls_behind(search, whole, trials.all(), number):
            raise _GivenUp

    def ended(state: State, **figures: Any) -> State:
        fence()
        trials.end(number, state, seconds=round(monotonic() - began, 3), **figures)
        return state

    try:
        tried = proposed(spec, trial.parameters)
        dataset = load_dataset(tried, data)
        split = split_dataset(dataset, test=tried.split.test, validation=tried.split.validation, by=tried.split.by)
        fitted = fit(tried, dataset, split, report=judge, checkpoints=checkpoints, fence=fence)
    except _GivenUp:
        return ended("pruned", reason="worse than the median of the other trials at this epoch")
    except ValidationError as error:
        return ended("failed", reason=error.errors(include_url=False)[0]["msg"])
    except LossNotFinite as error:
        return ended("failed", reason=str(error))
    value = measure(search.metric, tried, fitted, dataset, split)
    if value is None:
        return ended("failed", reason=f"{search.metric} cannot be told of the validation part")
    return ended("complete", value=value)


def is_over(search: SearchSpec, trials: Sequence[Trial], number: int, now: datetime) -> bool:
    """Whether the search's minutes are over before a trial has begun."""
    if search.minutes is None or not trials or any(trial.number == number for trial in trials):
        return False
    began = min(datetime.fromisoformat(trial.began_at) for trial in trials)
    return now - began > timedelta(minutes=search.minutes)


def measure(metric: str, spec: TrainingSpec, fitted: FittedModel, dataset: Dataset, split: Split) -> float | None:
    """A metric of a fitted network on the validation part; None where it is not defined there."""
    signature, targets = dataset.signature, dataset.targets[split.validation]
    units = predict_raw(fitted.model, dataset.inputs[split.validation])
    outputs = target_columns(units, signature, signature.outputs[0])
    return evaluate(outputs, targets, signature, spec.positive_label)["metrics"][metric]
