"""Built-in data sets as raw data: the same values as scikit-learn's, by kind, with facts that hold for them."""

import numpy as np
import pytest

from models.builtins import BUILTINS, load_bunch, read_builtin


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
