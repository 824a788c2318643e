"""Categories, dates, texts and missing values become numbers, and are named again."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import orjson
import pytest
import tables
from numpy.typing import NDArray

from models.encoding.columns import encode_column
from models.encoding.dates import days_of, written_date
from models.encoding.reading import OTHER, given_strings, named_value
from models.encoding.words import words_of
from models.errors import Fault, InvalidDataset, InvalidRows
from models.raw import RawColumn
from models.rows import check_array, decode_rows
from models.signature import Feature, Signature

AGE = Feature("age", "numeric", (), (0.0, 99.0), nullable=True)
CITY = Feature("city", "categorical", (), (0.0, 2.0), vocabulary=("lima", "oslo", "rome"))
PET = Feature("pet", "categorical", (), (0.0, 2.0), nullable=True, vocabulary=("cat", "dog"), unseen=True)
CODE = Feature("code", "categorical", (), (0.0, 7.0), buckets=8)
GIFT = Feature("gift", "boolean", (), (0.0, 1.0))
DAY = Feature("day", "date", (), (0.0, 20000.0), nullable=True)
NOTE = Feature("note", "text", (3,), (0.0, 4.0), nullable=True, vocabulary=("good", "don't", "bad"))
MIXED = Signature((AGE, CITY, PET, CODE, GIFT, DAY, NOTE), "regression", "price", ignored=("id",))
TEXT = Signature((NOTE,), "regression", "price")
SERIES = Signature((Feature("pulse", "series", (2, 2), (0.0, 9.0), nullable=True),), "regression", "price")
NUMBERS = Signature((AGE, Feature("bmi", "numeric", (), (0.0, 99.0))), "regression", "price")
ROW = {
    "age": 40,
    "city": "oslo",
    "pet": "dog",
    "code": "x",
    "gift": True,
    "day": "1970-01-03",
    "note": "Good, don't GO there",
}
EMPTY = {**ROW, "age": None, "pet": None, "day": None, "note": None}


def test_each_kind_of_value_has_its_place_in_one_row() -> None:
    row = decode_rows([ROW], MIXED)[0]

    np.testing.assert_array_equal(row[[0, 1, 2, 4, 5, 6, 7, 8]], [40, 1, 1, 1, 2, 2, 3, 1])
    assert 0 <= row[3] < 8


def test_null_is_a_missing_value_where_the_signature_says_so() -> None:
    row = decode_rows([EMPTY], MIXED)[0]

    assert np.isnan(row[[0, 2, 5]]).all()
    np.testing.assert_array_equal(row[6:], [0, 0, 0])


def test_unseen_category_has_a_place_only_where_the_signature_has_one() -> None:
    assert 2 == decode_rows([{**ROW, "pet": "axolotl"}], MIXED)[0, 2]

    faults = faults_of([{**ROW, "city": "paris"}], MIXED)

    detail = "a category that was not seen in training"
    assert faults == [Fault("#/inputs/0/city", "one of 'lima', 'oslo', 'rome'", "the string 'paris'", detail)]


def test_hashed_category_has_the_bucket_that_training_gave_it() -> None:
    names = np.array(["x", "y", None, "\ud800"], dtype=object)

    learned = encode_column(RawColumn("categorical", names), CODE)[:, 0]
    served = [decode_rows([{**ROW, "code": name}], MIXED)[0, 3] for name in ("x", "y", "\ud800")]

    np.testing.assert_array_equal(learned[[0, 1, 3]], served)


def test_every_wrong_value_is_named_with_what_was_expected() -> None:
    row = {"age": "40", "city": None, "pet": 1, "code": None, "gift": 1, "day": "2024-02-30", "note": ["good"], "x": 1}
    a_date = "a date in ISO 8601, such as '2024-03-01' or '2024-03-01T09:30:00Z' or null"

    faults = faults_of([row], MIXED)

    assert faults == [
        Fault("#/inputs/0/age", "a finite number or null", "the string '40'"),
        Fault("#/inputs/0/city", "one of 'lima', 'oslo', 'rome'", "null"),
        Fault("#/inputs/0/pet", "a string or null", "the number 1"),
        Fault("#/inputs/0/code", "a string", "null"),
        Fault("#/inputs/0/gift", "true or false", "the number 1"),
        Fault("#/inputs/0/day", a_date, "the string '2024-02-30'"),
        Fault("#/inputs/0/note", "a string or null", "a list of 1 values"),
        Fault("#/inputs/0/x", "no such feature", "the number 1", "not in the signature"),
    ]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e39, 10**400])
def test_number_that_is_none_is_a_fault_also_where_null_is_not(number: float) -> None:
    faults = faults_of([{**ROW, "age": number}], MIXED)

    assert ["#/inputs/0/age"] == [fault.pointer for fault in faults]


def test_one_text_may_come_bare_and_is_cut_at_its_length() -> None:
    rows = decode_rows(["bad bad good good", {"note": "unheard"}, None], TEXT)

    np.testing.assert_array_equal(rows, [[4, 4, 2], [1, 0, 0], [0, 0, 0]])


def test_series_takes_nulls_and_names_what_is_no_number() -> None:
    rows = decode_rows([[[1, None], [3, 4]], {"pulse": [[1, 2], [3, 4]]}], SERIES)

    np.testing.assert_array_equal(rows, [[[1, np.nan], [3, 4]], [[1, 2], [3, 4]]])

    faults = faults_of([[[1, "2"], [3, 4]], [[1, 2]], [[1, 2, 3], [3, 4]], [[1, float("nan")], [3, 4]]], SERIES)

    expected = "a finite number or null"
    assert faults == [
        Fault("#/inputs/0/0/1", expected, "the string '2'"),
        Fault("#/inputs/1", "a series of 2 steps x 2 channels of numbers or nulls", "a list of 1 x 2 values"),
        Fault("#/inputs/2/0", "a list of 2 channels", "a list of 3 values"),
        Fault("#/inputs/3/0/1", expected, "the number nan"),
    ]


def test_array_holds_missing_numbers_as_nan_and_nothing_but_numbers() -> None:
    missing = np.array([[np.nan, 20.0]])

    np.testing.assert_array_equal(missing, check_array(missing, NUMBERS))
    with pytest.raises(InvalidRows) as wrong:
        check_array(missing[:, ::-1], NUMBERS)
    with pytest.raises(InvalidRows) as mixed:
        check_array(np.zeros((1, 9)), MIXED)

    assert ["#/inputs/0/1"] == [fault.pointer for fault in wrong.value.faults]
    assert "rows of JSON: this version takes more than numbers" == mixed.value.faults[0].expected


@pytest.mark.parametrize(
    ("written", "days", "again"),
    [
        ("1970-01-01", 0.0, "1970-01-01"),
        ("1969-12-31", -1.0, "1969-12-31"),
        ("2024-02-29", 19782.0, "2024-02-29"),
        ("2024-03-01T06:00:00Z", 19783.25, "2024-03-01T06:00Z"),
        ("2024-03-01T06:00:00+06:00", 19783.0, "2024-03-01"),
        ("2024-03-01 12:00", 19783.5, "2024-03-01T12:00Z"),
    ],
)
def test_dates_are_days_in_utc(written: str, days: float, again: str) -> None:
    assert days == days_of(written)
    assert again == written_date(days)


@pytest.mark.parametrize("written", ["", "yesterday", "2024-13-01", "1.3.2024", "0000-01-01"])
def test_what_is_no_date_has_no_days(written: str) -> None:
    assert days_of(written) is None


def test_words_are_found_in_any_script_with_their_places() -> None:
    text = "Don't stop: naïve café 東京, x_1"

    words = words_of(text)

    assert ["Don't", "stop", "naïve", "café", "東", "京", "x", "1"] == [word.text for word in words]
    assert all(text[slice(*word.span)] == word.text for word in words)


def test_values_are_named_as_a_person_would() -> None:
    row = decode_rows([ROW], MIXED)[0]
    nothing = decode_rows([{**EMPTY, "pet": None}], MIXED)[0]

    assert [40, "oslo", "dog", True, "1970-01-03", f"good don't {OTHER}"] == values_named(row)
    assert [None, "oslo", None, True, None, ""] == [None if v != v else v for v in values_named(nothing)]
    assert OTHER == named_value(PET, np.array([2], np.float32))


def test_strings_are_kept_as_they_were_sent() -> None:
    rows: list[Any] = [ROW, list(EMPTY.values())]

    given = given_strings(rows, MIXED)

    assert {"city", "pet", "code", "day", "note"} == given[0].keys()
    assert given[1] == {"city": "oslo", "code": "x"}
    assert given_strings(["good"], TEXT) == ({"note": "good"},)
    assert given_strings([{"age": 1, "bmi": 2}], NUMBERS) == ()


def test_signature_comes_back_from_json_and_so_does_an_older_one() -> None:
    document = orjson.loads(orjson.dumps(MIXED.to_json()))
    older = orjson.loads(orjson.dumps(NUMBERS.to_json()))
    for feature in older["features"]:
        for name in ("nullable", "vocabulary", "unseen", "buckets"):
            del feature[name]

    assert MIXED == Signature.from_json(document)
    assert ("age", "bmi") == Signature.from_json(older).feature_names
    assert not Signature.from_json(older).features[0].nullable


def test_training_and_a_request_encode_a_row_alike() -> None:
    raw = tables.mixed_table(300)
    held = tables.dataset(raw, "returned", ("no", "yes"))
    rows = [{name: json_value(column, place) for name, column in raw.columns.items()} for place in range(50)]

    decoded = decode_rows(rows, held.signature)

    np.testing.assert_array_equal(held.inputs[:50], decoded)


def test_vocabulary_is_that_of_the_train_part_and_rare_categories_are_folded() -> None:
    raw = tables.mixed_table(400)
    city = raw.columns["city"].values
    city[7] = "atlantis"

    folded = feature_of(raw, "city")
    hashed = feature_of(raw, "city", categorical="hashing", hash_buckets=16)

    assert ("lima", "oslo", "paris", "rome") == folded.vocabulary
    assert folded.unseen
    assert ((), 16) == (hashed.vocabulary, hashed.buckets)


def test_category_that_no_train_row_has_is_refused_where_unseen_ones_are() -> None:
    raw = tables.mixed_table(400)
    held = tables.dataset(raw, "returned", ("no", "yes"))
    from models.datasets import split_dataset

    test_row = split_dataset(held, test=0.2, validation=0.2).test[0]
    raw.columns["city"].values[test_row] = "atlantis"

    with pytest.raises(InvalidDataset, match="'atlantis' of 'city' stands in no train row"):
        tables.dataset(raw, "returned", ("no", "yes"), unseen="refuse")


def test_column_of_nothing_but_rare_categories_is_refused_with_a_cure() -> None:
    raw = tables.mixed_table(200)
    raw.columns["city"].values[:] = [f"city {place}" for place in range(200)]

    with pytest.raises(InvalidDataset, match=r"none in 5 or more.*hash it"):
        tables.dataset(raw, "returned", ("no", "yes"))


def test_column_without_a_value_is_refused() -> None:
    raw = tables.mixed_table(200)
    raw.columns["age"].values[:] = np.nan

    with pytest.raises(InvalidDataset, match="Every value of 'age' in the train part is missing"):
        tables.dataset(raw, "returned", ("no", "yes"))


def test_date_column_is_days() -> None:
    first = date(2023, 5, 1)
    values = np.array([np.datetime64(first + timedelta(days=i), "ms") for i in range(3)] + [np.datetime64("NaT", "ms")])

    encoded = encode_column(RawColumn("date", values), DAY)

    np.testing.assert_array_equal(encoded[:, 0], [19478, 19479, 19480, np.nan])


def faults_of(rows: list[Any], signature: Signature) -> list[Fault]:
    with pytest.raises(InvalidRows) as raised:
        decode_rows(rows, signature)
    return list(raised.value.faults)


def feature_of(raw: Any, name: str, **preprocessing: Any) -> Feature:
    features = tables.dataset(raw, "returned", ("no", "yes"), **preprocessing).signature.features
    return next(feature for feature in features if feature.name == name)


def values_named(row: NDArray[np.float32]) -> list[Any]:
    chosen = [AGE, CITY, PET, GIFT, DAY, NOTE]
    places = dict(zip(MIXED.features, MIXED.places, strict=True))
    return [named_value(feature, row[places[feature]]) for feature in chosen]


def json_value(column: RawColumn, place: int) -> Any:
    value = column.values[place]
    match column.kind:
        case "boolean":
            return bool(value)
        case "date":
            return str(value)
        case "numeric":
            return None if np.isnan(value) else float(value)
        case _:
            return value
