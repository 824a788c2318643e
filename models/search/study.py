"""What to try next, what to give up, and which keys mattered: Optuna's part. It is imported by trainers alone.

A study is made anew from the stored trials whenever it is asked: it holds no state of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models.search.trials import Trial
from models.spec.search import ChoicesSpec, Domain, SearchSpec

STARTUP_TRIALS = 10
"""Trials that are drawn at random before the estimator has enough to go by."""
STARTUP_BEFORE_PRUNING = 5
WARMUP_EPOCHS = 5
"""Epochs in which no trial is given up."""
LEAST_FOR_IMPORTANCE = 4


def draw(
    search: SearchSpec, whole: Mapping[str, bool], trials: Sequence[Trial], *, seed: int, maximize: bool
) -> dict[str, Any]:
    """The parameters of the next trial, by dotted key.

    Drawn by the tree-structured Parzen estimator over all keys together (Bergstra et al. 2011, "Algorithms for
    hyper-parameter optimization"). Trials that run count as bad ones, so that trials at the same time differ.

    Args:
        whole: by key, whether it takes whole numbers.
        trials: those that have begun.
        seed: with the same trials, the same seed draws the same.
    """
    study = _study(search, whole, trials, seed=seed + len(trials), maximize=maximize)
    return study.ask(_distributions(search, whole)).params


def falls_behind(search: SearchSpec, whole: Mapping[str, bool], trials: Sequence[Trial], number: int) -> bool:
    """Whether a trial's best validation error so far is worse than the median of the others' at the same epoch."""
    study = _study(search, whole, trials, seed=0, maximize=False)
    held = next(trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs["trial"] == number)
    return study.pruner.prune(study, held)


def importances(
    search: SearchSpec, whole: Mapping[str, bool], trials: Sequence[Trial], *, seed: int, maximize: bool
) -> dict[str, float]:
    """What share of the metric's variance over the space each key explains, by fANOVA; they add up to 1.

    Hutter, Hoos and Leyton-Brown 2014, "An efficient approach for assessing hyperparameter importance". Empty with
    fewer than `LEAST_FOR_IMPORTANCE` complete trials, or when all of them fared alike.
    """
    import optuna

    values = [trial.value for trial in trials if trial.state == "complete"]
    if len(values) < LEAST_FOR_IMPORTANCE or len(set(values)) == 1:
        return {}
    study = _study(search, whole, trials, seed=seed, maximize=maximize)
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed)
    )
    return {name: float(share) for name, share in found.items()}


def _study(search: SearchSpec, whole: Mapping[str, bool], trials: Sequence[Trial], *, seed: int, maximize: bool) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if maximize else "minimize",
        sampler=optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True, seed=seed % 2**32
        ),
        pruner=optuna.pruners.MedianPruner(STARTUP_BEFORE_PRUNING, WARMUP_EPOCHS),
    )
    distributions = _distributions(search, whole)
    states = optuna.trial.TrialState
    of_state = {
        "running": states.RUNNING,
        "complete": states.COMPLETE,
        "pruned": states.PRUNED,
        "failed": states.FAIL,
    }
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state=of_state[trial.state],
                value=trial.value if trial.state == "complete" else None,
                params=dict(trial.parameters),
                distributions=distributions,
                user_attrs={"trial": trial.number},
                intermediate_values={
                    epoch: error for epoch, error in enumerate(trial.errors, 1) if math.isfinite(error)
                },
            )
        )
    return study


def _distributions(search: SearchSpec, whole: Mapping[str, bool]) -> dict[str, Any]:
    assert search.space is not None  # parse_spec fills it in
    return {path: _distribution(domain, whole=whole[path]) for path, domain in search.space.items()}


def _distribution(domain: Domain, *, whole: bool) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, ChoicesSpec):
        return CategoricalDistribution(domain.choices)
    if whole:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
