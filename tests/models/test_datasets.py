"""Built-in data sets under scikit-learn's names, and parts that rows keep."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from models.builtins import BUILTINS
from models.datasets import Dataset, Split, assign_part, load_builtin, split_dataset

SHARES = {"test": 0.2, "validation": 0.2}
SIZES = (253, 116, 73)
FIRST_TEST_ROWS = [1, 3, 5, 6, 16, 19, 23, 45]


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "wine", "iris"])
def test_features_and_labels_of_tables_are_scikit_learns_own(name: str) -> None:
    bunch = bundled(name)

    facts = BUILTINS[name]

    assert list(facts.features) == list(bunch.feature_names)
    assert list(facts.labels) == list(bunch.get("target_names", []))


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "wine", "iris"])
def test_tables_are_loaded_in_raw_units(name: str) -> None:
    bunch = bundled(name)

    dataset = load_builtin(name)

    np.testing.assert_array_equal(dataset.inputs, bunch.data.astype(np.float32))
    np.testing.assert_array_equal(dataset.targets, bunch.target)
    learned = bunch.data[split_dataset(dataset, **SHARES).train, 0]
    assert dataset.signature.features[0].value_range == (learned.min(), learned.max())


def test_digits_are_images_from_0_to_16() -> None:
    bunch = bundled("digits")

    dataset = load_builtin("digits")

    assert (8, 8, 1) == dataset.signature.input_shape
    np.testing.assert_array_equal(dataset.inputs[..., 0], bunch.images)
    assert tuple("0123456789") == dataset.signature.labels
    assert dataset.signature.image is not None
    assert (bunch.images.min(), bunch.images.max()) == dataset.signature.image.value_range


def test_ignored_columns_are_no_features_but_known() -> None:
    dataset = load_builtin("diabetes", ["age", "s3"])

    assert ("sex", "bmi", "bp", "s1", "s2", "s4", "s5", "s6") == dataset.signature.feature_names
    assert ("age", "s3") == dataset.signature.ignored
    assert (442, 8) == dataset.inputs.shape


def test_row_keeps_its_part_when_rows_are_removed_added_or_reordered() -> None:
    dataset = load_builtin("wine")
    before = parts_by_digest(dataset)
    order = np.random.default_rng(0).permutation(len(dataset.targets))

    fewer = parts_by_digest(rows_of(dataset, order[:100]))
    reordered = parts_by_digest(rows_of(dataset, order))

    assert {digest: before[digest] for digest in fewer} == fewer
    assert before == reordered


def test_row_keeps_its_part_when_a_column_is_ignored() -> None:
    whole = split_dataset(load_builtin("diabetes"), **SHARES)

    without = split_dataset(load_builtin("diabetes", ["age", "bmi"]), **SHARES)

    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(whole, part), getattr(without, part))


def test_test_row_stays_one_when_the_validation_part_grows() -> None:
    dataset = load_builtin("diabetes")

    small = split_dataset(dataset, test=0.2, validation=0.1)
    large = split_dataset(dataset, test=0.2, validation=0.5)

    np.testing.assert_array_equal(small.test, large.test)
    assert set(small.validation) < set(large.validation)


def test_digest_of_the_data_does_not_depend_on_the_order_of_rows_but_on_each_row() -> None:
    dataset = load_builtin("wine")

    assert dataset.sha256 == rows_of(dataset, np.arange(178)[::-1]).sha256
    assert dataset.sha256 != rows_of(dataset, np.arange(177)).sha256


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, "test"), (0.19, "test"), (0.2, "validation"), (0.39, "validation"), (0.4, "train"), (0.99, "train")],
)
def test_part_follows_from_the_digest_alone(fraction: float, expected: str) -> None:
    digest = int(np.ceil(fraction * 2**64)).to_bytes(8, "big") + bytes(24)

    assert expected == assign_part(digest, **SHARES)


def test_parts_of_diabetes_have_not_moved_since_the_first_release() -> None:
    """A change of how rows are hashed would put test rows of old versions into the training of new ones."""
    split = split_dataset(load_builtin("diabetes"), **SHARES)

    assert SIZES == (len(split.train), len(split.validation), len(split.test))
    assert FIRST_TEST_ROWS == split.test[:8].tolist()


@pytest.mark.parametrize("column", ["age", "sex"])
def test_groups_stay_together(column: str) -> None:
    dataset = load_builtin("diabetes")

    split = split_dataset(dataset, **SHARES, by=column)

    groups = [set(dataset.columns[column][indices]) for indices in (split.train, split.validation, split.test)]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert set(dataset.columns[column]) == groups[0] | groups[1] | groups[2]


def test_rows_can_be_grouped_by_an_ignored_column() -> None:
    split = split_dataset(load_builtin("diabetes", ["age"]), **SHARES, by="age")

    expected = split_dataset(load_builtin("diabetes"), **SHARES, by="age")
    np.testing.assert_array_equal(expected.test, split.test)


def test_parts_have_the_shares_that_were_asked_and_cover_every_row_once() -> None:
    dataset = load_builtin("digits")

    split = split_dataset(dataset, test=0.3, validation=0.1)

    n_rows = len(dataset.targets)
    assert pytest.approx(0.3, abs=0.03) == len(split.test) / n_rows
    assert pytest.approx(0.1, abs=0.03) == len(split.validation) / n_rows
    everything = np.concatenate([split.train, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(everything), np.arange(n_rows))


def bundled(name: str) -> Any:
    return datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()


def rows_of(dataset: Dataset, indices: Any) -> Dataset:
    return dataclasses.replace(
        dataset,
        inputs=dataset.inputs[indices],
        targets=dataset.targets[indices],
        row_digests=tuple(dataset.row_digests[i] for i in indices),
        columns={name: values[indices] for name, values in dataset.columns.items()},
    )


def parts_by_digest(dataset: Dataset) -> dict[bytes, str]:
    split: Split = split_dataset(dataset, **SHARES)
    return {dataset.row_digests[i]: part for part in ("train", "validation", "test") for i in getattr(split, part)}
