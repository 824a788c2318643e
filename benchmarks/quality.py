"""How well default specifications predict, beside gradient boosting on the same rows.

`python -m benchmarks.quality [DATASET ...] [--folds N]` fits, for each data set, the specification that names nothing
but the data, and scikit-learn's HistGradientBoosting with its defaults on the train and validation rows. Every row is
predicted once, by models that have not seen it. It prints a table and ends with status 1 where the network is not
within one bootstrap interval of gradient boosting: where the paired interval of the difference lies wholly on the wrong
side of 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from benchmarks.accuracy import fold_split
from benchmarks.tables import describe_machine, markdown_table
from models.evaluation.baselines import gradient_boosting
from models.evaluation.bootstrap import Distribution, Resampling
from models.evaluation.names import more_is_better
from models.evaluation.weighted import weighted_metrics
from models.loading import load_dataset
from models.outputs import target_columns
from models.spec import parse_spec
from models.training import fit, predict_raw

DATASETS = ("breast_cancer", "digits", "wine", "diabetes")
SHOWN = {"classification": ("accuracy", "roc_auc", "log_loss"), "regression": ("r2", "mae")}
JUDGED = {"classification": "accuracy", "regression": "r2"}
FOLDS, SEED = 5, 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of a data set: of the network, of gradient boosting, and their difference."""

    dataset: str
    metric: str
    network: Distribution
    boosting: Distribution
    is_judged: bool
    slowest_fit_seconds: float

    @property
    def difference(self) -> Distribution:
        return self.network.minus(self.boosting)

    @property
    def within(self) -> bool:
        """Whether the network is as good, or better, as far as these rows can tell."""
        interval = self.difference.interval(self.metric)
        worse = self.difference.whole[self.metric] * (1 if more_is_better(self.metric) else -1) < 0
        if interval is None:
            return not worse
        return interval[1] >= 0 if more_is_better(self.metric) else interval[0] <= 0


def compare(name: str, n_folds: int, keys: dict[str, Any] | None = None) -> list[Comparison]:
    """Cross-validates the default specification of a data set, with some keys of another where they are given."""
    spec = parse_spec({"model": name.replace("_", "-"), "dataset": {"builtin": name}, **(keys or {})})
    dataset = load_dataset(spec)
    signature = dataset.signature
    kind = KFold if signature.task == "regression" else StratifiedKFold
    folds = list(kind(n_folds, shuffle=True, random_state=SEED).split(dataset.inputs, dataset.targets))
    network, boosting = (np.zeros((len(dataset.targets), len(signature.targets))) for _ in range(2))
    seconds = []
    for train, test in folds:
        split = fold_split(dataset, train, test, spec.split.validation)
        started = monotonic()
        model = fit(spec, dataset, split).model
        seconds.append(monotonic() - started)
        network[test] = target_columns(predict_raw(model, dataset.inputs[test]), signature, signature.outputs[0])
        fitted = gradient_boosting(dataset.inputs[train], dataset.targets[train], dataset.inputs[test], signature, SEED)
        assert fitted.outputs is not None
        boosting[test] = fitted.outputs
    strata = dataset.targets if signature.task == "classification" else None
    resampling = Resampling.draw(len(dataset.targets), strata=strata, seed=SEED)
    one, other = (
        Distribution.of(weighted_metrics(outputs, dataset.targets, signature, spec.positive_label), resampling)
        for outputs in (network, boosting)
    )
    judged = JUDGED[signature.task]
    return [Comparison(name, metric, one, other, metric == judged, max(seconds)) for metric in SHOWN[signature.task]]


def _row(result: Comparison) -> list[str]:
    def figure(of: Distribution, form: str) -> str:
        interval = of.interval(result.metric)
        value = format(of.whole[result.metric], form)
        return value if interval is None else f"{value} ({interval[0]:{form}} to {interval[1]:{form}})"

    form = ".2f" if result.metric == "mae" else ".4f"
    verdict = "" if not result.is_judged else "pass" if result.within else "FAIL"
    return [
        result.dataset,
        result.metric,
        figure(result.network, form),
        figure(result.boosting, form),
        figure(result.difference, "+" + form),
        verdict,
        f"{result.slowest_fit_seconds:.0f} s" if result.is_judged else "",
    ]


def table(results: Sequence[Comparison]) -> str:
    header = ["data set", "metric", "network", "gradient boosting", "difference", "verdict", "slowest fit"]
    return markdown_table(header, [_row(result) for result in results])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=f"of {', '.join(DATASETS)}; default: all")
    parser.add_argument("--folds", type=int, default=FOLDS)
    arguments = parser.parse_args()
    names = arguments.datasets or list(DATASETS)
    if unknown := sorted(set(names) - set(DATASETS)):
        parser.error(f"expected data sets of {', '.join(DATASETS)}. Received: {', '.join(unknown)}")
    machine, results = describe_machine(), []
    for name in names:
        sys.stderr.write(f"fitting {name} ...\n")
        results += compare(name, arguments.folds)
    print(f"{machine}\n\n{table(results)}")
    return 0 if all(result.within for result in results if result.is_judged) else 1


if __name__ == "__main__":
    raise SystemExit(main())
