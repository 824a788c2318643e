"""Cross-validation: folds by content, the test part untouched, resumable, its figures those of the folds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.datasets import Dataset, Split, digests_by, load_builtin, split_dataset
from models.epochs import EpochReport
from models.errors import InvalidDataset
from models.folds import Fold, cross_validate, cut_folds
from models.spec import TrainingSpec, parse_spec
from models.training import FittedModel, predict_raw


def test_every_row_outside_the_test_part_is_left_out_once() -> None:
    dataset, split = iris()

    folds = cut(dataset, split, 4)

    left_out = np.concatenate([fold.split.test for fold in folds])
    assert sorted([*split.train, *split.validation]) == sorted(left_out)
    for fold in folds:
        parts = [set(part) for part in (fold.split.train, fold.split.validation, fold.split.test)]
        assert sorted([*split.train, *split.validation]) == sorted(set.union(*parts))
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert not set(split.test) & set.union(*parts)


def test_row_stays_in_its_fold_when_others_are_taken_away() -> None:
    dataset, split = iris()
    fewer = Split(split.train[::2], split.validation[::2], split.test)

    whole, half = (
        {row: fold.number for fold in cut(dataset, each, 3) for row in fold.split.test} for each in (split, fewer)
    )

    assert half == {row: whole[row] for row in half}


def test_rows_of_one_group_are_in_one_fold() -> None:
    dataset, _ = iris()
    by = "petal width (cm)"
    split = split_dataset(dataset, test=0.2, validation=0.2, by=by)

    folds = cut_folds(digests_by(dataset, by), split, n_folds=3, validation=0.2)

    for fold in folds:
        left_out, learned = (set(dataset.columns[by][part]) for part in (fold.split.test, fold.split.train))
        assert not left_out & learned


def test_more_folds_than_rows_are_refused_with_the_cure() -> None:
    dataset, split = iris()
    few = Split(split.train[:5], split.validation[:2], split.test)

    with pytest.raises(InvalidDataset, match=r"7 rows outside the test part are too few.*smaller training\.folds"):
        cut(dataset, few, 20)


def test_figures_are_the_mean_and_the_deviation_over_folds_and_a_later_attempt_takes_them_up(tmp_path: Path) -> None:
    spec, (dataset, split) = specification(folds=2), iris()
    reports: list[EpochReport] = []
    measured: list[int] = []

    def measure(fitted: FittedModel, rows: Any) -> dict[str, float | None]:
        measured.append(len(rows))
        right = predict_raw(fitted.model, dataset.inputs[rows]).argmax(axis=1) == dataset.targets[rows]
        return {"accuracy": float(right.mean()), "undefined": None}

    first = cross_validate(spec, dataset, split, measure, report=reports.append, checkpoints=tmp_path)
    again = cross_validate(spec, dataset, split, measure, report=reports.append, checkpoints=tmp_path)

    values = [each["metrics"]["accuracy"] for each in first["per_fold"]]
    assert [1, 2] == [each["fold"] for each in first["per_fold"]]
    assert pytest.approx(np.mean(values)) == first["mean"]["accuracy"]
    assert pytest.approx(np.std(values, ddof=1)) == first["deviation"]["accuracy"]
    assert (None, None) == (first["mean"]["undefined"], first["deviation"]["undefined"])
    assert first == again
    assert 2 == len(measured)
    assert [(1, 2, 1), (1, 2, 2), (2, 2, 1), (2, 2, 2)] == [(each.fold, each.folds, each.epoch) for each in reports]


def test_result_of_another_specification_is_not_taken_up(tmp_path: Path) -> None:
    dataset, split = iris()
    (tmp_path / "fold-1").mkdir()
    (tmp_path / "fold-1" / "result.json").write_text('{"identity": "another", "result": {"fold": 9}}')

    found = cross_validate(specification(folds=2), dataset, split, lambda *_: {"one": 1.0}, checkpoints=tmp_path)

    assert [1, 2] == [each["fold"] for each in found["per_fold"]]
    assert ({"one": 1.0}, {"one": 0.0}) == (found["mean"], found["deviation"])


def specification(folds: int) -> TrainingSpec:
    return parse_spec(
        {
            "model": "m",
            "dataset": {"builtin": "iris"},
            "architecture": {"type": "mlp", "layers": [4]},
            "training": {"epochs": 2, "folds": folds, "learning_rate": 0.05},
        }
    )


def iris() -> tuple[Dataset, Split]:
    dataset = load_builtin("iris")
    return dataset, split_dataset(dataset, test=0.2, validation=0.2)


def cut(dataset: Dataset, split: Split, n_folds: int) -> list[Fold]:
    return cut_folds(digests_by(dataset, "row"), split, n_folds=n_folds, validation=0.2)
