"""What a search has found: the specification of its best trial, and the account of all of them for the card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.errors import SearchWithoutResult
from models.evaluation.names import more_is_better
from models.search.study import importances
from models.search.trials import Trial
from models.spec import TrainingSpec
from models.spec.proposal import proposed
from models.spec.search import SearchSpec, whole_keys


def searched(spec: TrainingSpec, trials: Sequence[Trial]) -> tuple[TrainingSpec, dict[str, Any]]:
    """The specification of the best trial, without its search; and the search as the card tells it.

    Raises:
        SearchWithoutResult: when no trial came to its end.
    """
    search = spec.search
    assert search is not None
    best = best_trial(search, trials)
    if best is None:
        raise SearchWithoutResult([trial.reason or trial.state for trial in trials])
    assert search.metric is not None  # parse_spec fills it in
    maximize = more_is_better(search.metric)
    whole = whole_keys(search, spec.model_dump(mode="json"))
    account = {
        "asked": search.model_dump(mode="json"),
        "metric": search.metric,
        "best": {"trial": best.number, "value": best.value, "parameters": dict(best.parameters)},
        "importances": importances(search, whole, trials, seed=spec.training.seed, maximize=maximize),
        "trials": [trial.to_json() for trial in trials],
    }
    return proposed(spec, best.parameters), account


def best_trial(search: SearchSpec, trials: Sequence[Trial]) -> Trial | None:
    """The complete trial whose metric is best; the first of those that are alike; None before one is complete."""
    complete = [(trial.value, trial) for trial in trials if trial.state == "complete" and trial.value is not None]
    assert search.metric is not None  # parse_spec fills it in
    sign = -1.0 if more_is_better(search.metric) else 1.0
    return min(complete, key=lambda pair: (sign * pair[0], pair[1].number), default=(None, None))[1]
