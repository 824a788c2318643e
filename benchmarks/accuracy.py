"""How well the demo models' specifications predict, against bars that they must reach.

`python -m benchmarks.accuracy [MODEL ...]` prints one table and ends with status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.tables import describe_machine, markdown_table
from models.datasets import Dataset, Split, assign_part, split_dataset
from models.demos import DEMO_SPECS
from models.evaluation import evaluate
from models.loading import load_dataset
from models.outputs import target_columns
from models.spec import TrainingSpec, parse_spec
from models.training import fit, predict_raw

FOLDS = 5
SEED = 0
DIGITS_BAR = 0.97
BREAST_CANCER_BAR = 0.95
RIDGE_MARGIN = 0.03
RIDGE_PENALTIES = np.logspace(-3, 3, 25)


@dataclass(frozen=True, slots=True)
class Result:
    """The scores of one model, one for each fold, and the bar that their mean must reach."""

    model: str
    measure: str
    scores: tuple[float, ...]
    bar: float | None = None
    slowest_fit_seconds: float | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def passed(self) -> bool:
        return self.bar is None or self.mean >= self.bar


def measure_digits() -> Iterator[Result]:
    """Accuracy on the test part of the hash split: the rows that no served version has seen."""
    spec = parse_spec(DEMO_SPECS["digits"])
    dataset = load_dataset(spec)
    split = split_dataset(dataset, test=spec.split.test, validation=spec.split.validation, by=spec.split.by)
    yield _cross_validate(spec, dataset, [split], "accuracy, hash split", DIGITS_BAR)


def measure_breast_cancer() -> Iterator[Result]:
    """Accuracy on stratified folds."""
    spec = parse_spec(DEMO_SPECS["breast-cancer"])
    dataset = load_dataset(spec)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(dataset.inputs, dataset.targets)
    splits = [fold_split(dataset, train, test, spec.split.validation) for train, test in folds]
    yield _cross_validate(spec, dataset, splits, f"accuracy, {FOLDS} folds", BREAST_CANCER_BAR)


def measure_diabetes() -> Iterator[Result]:
    """R2 on folds beside two ridge regressions, which learn from the validation rows too; the better sets the bar."""
    spec = parse_spec(DEMO_SPECS["diabetes"])
    dataset = load_dataset(spec)
    splits = [
        fold_split(dataset, train, test, spec.split.validation)
        for train, test in KFold(FOLDS, shuffle=True, random_state=SEED).split(dataset.inputs)
    ]
    ridges = [
        Result("Ridge(alpha=1.0)", f"R2, {FOLDS} folds", _score_ridge(dataset, splits, Ridge(1.0))),
        Result("RidgeCV", f"R2, {FOLDS} folds", _score_ridge(dataset, splits, RidgeCV(RIDGE_PENALTIES))),
    ]
    bar = max(ridge.mean for ridge in ridges) - RIDGE_MARGIN
    yield _cross_validate(spec, dataset, splits, f"R2, {FOLDS} folds", bar)
    yield from ridges


MEASURES: dict[str, Callable[[], Iterator[Result]]] = {
    "digits": measure_digits,
    "breast-cancer": measure_breast_cancer,
    "diabetes": measure_diabetes,
}


def fold_split(dataset: Dataset, train: NDArray[np.int64], test: NDArray[np.int64], validation: float) -> Split:
    """A fold as a split: its test rows untouched, the others assigned to train or validation by their content."""
    parts = np.array([assign_part(dataset.row_digests[row], test=0.0, validation=validation) for row in train])
    return Split(train[parts == "train"], train[parts == "validation"], test)


def _cross_validate(spec: TrainingSpec, dataset: Dataset, splits: Sequence[Split], measure: str, bar: float) -> Result:
    scores, seconds = [], []
    for split in splits:
        started = monotonic()
        model = fit(spec, dataset, split).model
        seconds.append(monotonic() - started)
        signature = dataset.signature
        outputs = target_columns(predict_raw(model, dataset.inputs[split.test]), signature, signature.outputs[0])
        metrics = evaluate(outputs, dataset.targets[split.test], signature, spec.positive_label)["metrics"]
        scores.append(metrics["r2" if signature.task == "regression" else "accuracy"])
    return Result(spec.model, measure, tuple(scores), bar, max(seconds))


def _score_ridge(dataset: Dataset, splits: Sequence[Split], ridge: Ridge | RidgeCV) -> tuple[float, ...]:
    scores = []
    for split in splits:
        seen = np.concatenate([split.train, split.validation])
        model = make_pipeline(StandardScaler(), ridge).fit(dataset.inputs[seen], dataset.targets[seen])
        scores.append(float(model.score(dataset.inputs[split.test], dataset.targets[split.test])))
    return tuple(scores)


def _row(result: Result) -> list[str]:
    folds = " ".join(f"{score:.3f}" for score in result.scores) if len(result.scores) > 1 else ""
    verdict = "" if result.bar is None else "pass" if result.passed else "FAIL"
    bar = "" if result.bar is None else f"{result.bar:.3f}"
    seconds = "" if result.slowest_fit_seconds is None else f"{result.slowest_fit_seconds:.0f} s"
    return [result.model, result.measure, folds, f"{result.mean:.4f}", bar, verdict, seconds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MEASURES)}; default: all")
    names = parser.parse_args().models or list(MEASURES)
    if unknown := sorted(set(names) - set(MEASURES)):
        parser.error(f"expected models of {', '.join(MEASURES)}. Received: {', '.join(unknown)}")
    machine = describe_machine()
    results = []
    for name in names:
        sys.stderr.write(f"fitting {name} ...\n")
        results += MEASURES[name]()
    header = ["model", "measure", "each fold", "mean", "bar", "verdict", "slowest fit"]
    print(f"{machine}\n\n{markdown_table(header, [_row(result) for result in results])}")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
