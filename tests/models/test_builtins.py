"""Built-in data sets as raw data: the same values as scikit-learn's, by kind, with facts that hold for them."""

import numpy as np
import pytest

from models.builtins import BUILTINS, load_bunch, read_builtin
from models.errors import InvalidSpec
from models.loading import load_dataset
from models.spec import parse_spec


@pytest.mark.parametrize("name", BUILTINS)
def test_raw_columns_of_a_builtin_are_of_the_kinds_that_its_facts_say(name: str) -> None:
    facts = BUILTINS[name]

    raw = read_builtin(name)

    assert [*facts.features, facts.target] == list(raw.columns)
    assert dict(facts.kinds) == {feature: raw.columns[feature].kind for feature in facts.features}
    assert {raw.n_rows} == {len(column.values) for column in raw.columns.values()}
    assert not any(column.missing.any() for column in raw.columns.values())


def test_labels_of_a_raw_target_are_words() -> None:
    raw = read_builtin("iris")

    np.testing.assert_array_equal(
        np.array(BUILTINS["iris"].labels)[load_bunch("iris").target], raw.columns["species"].values
    )


def test_features_of_a_specification_change_kinds_and_ignore_columns() -> None:
    facts = BUILTINS["diabetes"].with_features({"sex": "categorical", "s1": "ignore"})

    assert ("numeric", "categorical") == (facts.kinds["age"], facts.kinds["sex"])
    assert ("s1",) == facts.ignored
    assert "s1" not in facts.features
    assert "s1" in facts.columns


def test_numbers_of_a_builtin_are_categories_where_a_specification_says_so() -> None:
    keys = {"features": {"sex": "categorical"}, "preprocessing": {"unseen": "refuse"}}
    spec = parse_spec({"model": "m", "dataset": {"builtin": "diabetes"}, **keys})

    dataset = load_dataset(spec)

    sex = dataset.signature.features[1]
    assert ("sex", "categorical", ("1", "2")) == (sex.name, sex.kind, sex.vocabulary)
    np.testing.assert_array_equal(load_bunch("diabetes").data[:, 1] - 1, dataset.inputs[:, 1])
    assert load_dataset(parse_spec({"model": "m", "dataset": {"builtin": "diabetes"}})).sha256 == dataset.sha256


@pytest.mark.parametrize(
    ("builtin", "features", "fault"),
    [
        ("diabetes", {"sex": "boolean"}, "#/features/sex: expected 'numeric', 'categorical' or 'ignore'"),
        ("digits", {"image": "series"}, "#/features/image: expected 'image' or 'ignore'"),
        ("diabetes", {"gender": "ignore"}, "#/features/gender: expected a feature of the data set: age, sex"),
    ],
)
def test_kind_that_a_builtin_cannot_be_read_as_is_refused_by_name(
    builtin: str, features: dict[str, str], fault: str
) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec({"model": "m", "dataset": {"builtin": builtin}, "features": features})

    assert fault in str(refused.value)
