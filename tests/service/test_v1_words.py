"""V1 documents and answers, without a server."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from models.registry import VersionRecord
from models.signature import Feature, Signature
from service.routes.v1.answers import metadata_answer, version_states
from service.routes.v1.errors import MalformedRequest, rows_under
from service.routes.v1.reading import Rows, examples_of, rows_of, with_strings

CITY = Feature("city", "categorical", (), (0, 1), vocabulary=("Bern", "Zürich"))
ROOMS = Feature("rooms", "numeric", (), (0, 9))
HOUSES = Signature((ROOMS, CITY), "regression", "price", ignored=("id",))
REVIEWS = Signature((Feature("review", "text", (20,), (0, 9), vocabulary=("good",)),), "regression", "stars")
SERIES = Signature((Feature("pulse", "series", (3, 2), (0, 9)),), "regression", "risk")


def b64(text: str) -> dict[str, str]:
    return {"b64": base64.b64encode(text.encode()).decode()}


def version(number: int) -> VersionRecord:
    return VersionRecord("houses", number, f"J{number}", "", "regression", [], "")


@pytest.mark.parametrize(
    ("rows", "signature", "expected"),
    [
        ([{"city": b64("Zürich"), "rooms": 3}], HOUSES, [{"city": "Zürich", "rooms": 3}]),
        ([[3, b64("Bern")]], HOUSES, [[3, "Bern"]]),
        ([b64("good"), {"review": b64("bad")}, "fair"], REVIEWS, ["good", {"review": "bad"}, "fair"]),
        ([{"rooms": b64("3"), "city": "Bern"}], HOUSES, [{"rooms": b64("3"), "city": "Bern"}]),
    ],
)
def test_bytes_are_strings_where_a_feature_is_one(rows: list[Any], signature: Signature, expected: list[Any]) -> None:
    assert expected == with_strings(Rows(rows, "instances"), signature).values


def test_bytes_that_are_no_string_are_named_by_the_key_they_came_under() -> None:
    rows = Rows([{"city": {"b64": "/w=="}, "rooms": 1}, {"city": {"b64": "!"}, "rooms": 1}], "instances")

    with pytest.raises(MalformedRequest) as raised, rows_under(rows.key):
        with_strings(rows, HOUSES)

    assert "element: 0 key: city of 'instances'" in str(raised.value)
    assert "element: 1 key: city of 'instances'" in str(raised.value)


def test_names_with_a_slash_are_said_as_they_are() -> None:
    signature = Signature((Feature("km/h", "categorical", (), (0, 1), vocabulary=("a", "b")),), "regression", "price")
    rows = Rows([{"km/h": {"b64": "!"}}], "inputs")

    with pytest.raises(MalformedRequest, match="key: km/h of 'inputs'"), rows_under(rows.key):
        with_strings(rows, signature)


def test_columns_become_rows() -> None:
    rows = rows_of({"inputs": {"rooms": [1, 2], "city": ["Bern", None]}}, 10)

    assert Rows([{"rooms": 1, "city": "Bern"}, {"rooms": 2, "city": None}], "inputs", is_columnar=True) == rows


def test_examples_are_flat_and_what_the_context_says_holds_where_they_say_nothing() -> None:
    rows = examples_of(
        {"context": {"city": "Bern"}, "examples": [{"rooms": [1]}, {"city": ["Rom"]}]}, HOUSES, "regress", 9
    )
    series = examples_of({"examples": [{"pulse": [1, 2, 3, 4, 5, 6]}, {"pulse": [1]}]}, SERIES, "regress", 9)

    assert [{"city": "Bern", "rooms": 1}, {"city": "Rom"}] == rows.values
    assert [{"pulse": [[1, 2], [3, 4], [5, 6]]}, {"pulse": [1]}] == series.values


@pytest.mark.parametrize(
    ("number", "state", "code"),
    [(4, "START", "OK"), (3, "LOADING", "OK"), (2, "END", "UNAVAILABLE"), (1, "AVAILABLE", "OK")],
)
def test_a_version_s_state_is_said_in_tensorflow_serving_s_words(number: int, state: str, code: str) -> None:
    versions = [version(each) for each in (1, 2, 3, 4)]

    states = version_states(versions, [1], {"champion": 3, "old": 2}, {"houses/2": "damaged", "houses/1": "slow"})

    assert [4, 3, 2, 1] == [each.version for each in states]
    said = next(each.to_json() for each in states if each.version == number)
    assert {"version": str(number), "state": state} == {name: said[name] for name in ("version", "state")}
    assert {"error_code": code, "error_message": "damaged" if number == 2 else ""} == said["status"]


def test_metadata_says_what_each_feature_takes() -> None:
    definition = metadata_answer("houses", 1, HOUSES)["metadata"]["signature_def"]["signature_def"]["serving_default"]

    assert {"rooms": "DT_FLOAT", "city": "DT_STRING"} == {
        name: tensor["dtype"] for name, tensor in definition["inputs"].items()
    }
