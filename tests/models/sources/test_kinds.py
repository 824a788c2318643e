"""Kinds are inferred from every value of a column, and what is doubtful about it is said."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import csv_of, profile_of_text, write

from models.sources.profile import ColumnProfile, Profile
from models.sources.reading import Reading, profile_file, read_raw

N_ROWS = 100
WORDS = ("late", "parcel", "broken", "refund", "thanks", "again", "never", "box")


def column_of(folder: Path, values: Iterable[Any]) -> ColumnProfile:
    values = list(values)
    return profile_of_text(folder, csv_of({"x": values, "y": range(len(values))})).column("x")


def comment(i: int) -> str:
    return " ".join(WORDS[(i * step) % 8] for step in (1, 3, 5)) + f" {i}"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"{i / 7:.3f}" for i in range(N_ROWS)], "numeric"),
        (["-1", "+2", "3e5", ".5", "4."] * 20, "numeric"),
        (["true", "False", "TRUE"] * 33, "boolean"),
        (["yes", "no"] * 50, "categorical"),
        (["red", "green", "blue"] * 33, "categorical"),
        (["0", "1", "2", "3+"] * 25, "categorical"),
        ([f"{i % 50:05d}" for i in range(N_ROWS)], "categorical"),
        ([f"2026-01-{i % 28 + 1:02d}" for i in range(N_ROWS)], "date"),
        ([f"2026-01-{i % 28 + 1:02d}T10:20:30Z" for i in range(N_ROWS)], "date"),
        ([f"{i % 28 + 1}.1.2026" for i in range(N_ROWS)], "date"),
        ([f"{i % 28 + 1}/1/2026" for i in range(N_ROWS)], "date"),
        ([f"1/{i % 28 + 1}/2026" for i in range(N_ROWS)], "date"),
        ([comment(i) for i in range(N_ROWS)], "text"),
    ],
)
def test_kind_follows_from_what_the_cells_say(tmp_path: Path, values: list[str], kind: str) -> None:
    assert kind == column_of(tmp_path, values).kind
    # A missing value changes nothing.
    assert kind == column_of(tmp_path, [*values, ""]).kind


def test_missing_values_are_counted_however_they_are_spelled(tmp_path: Path) -> None:
    profile = profile_of_text(tmp_path, "a,b\n1,x\n NA ,y\n?,z\nnull,x\n2,y\n")

    assert ("numeric", 3) == (profile.column("a").kind, profile.column("a").missing)
    assert {"NA": 1, "?": 1, "null": 1} == profile.reading["missing_spelled"]


def test_decimal_comma_is_read_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a;y\n1,5;1\n2;0\n-3,25;1\n")

    profile = profile_file(path)

    assert ("numeric", ",") == (profile.column("a").kind, profile.column("a").decimal)
    assert (-3.25, 2.0) == (profile.column("a").figures["min"], profile.column("a").figures["max"])
    assert "is written with a decimal comma" in profile.column("a").remarks
    raw = read_raw(path, profile, Reading({"a": "numeric"}, "y", labelled=True))
    np.testing.assert_array_equal([1.5, 2.0, -3.25], raw.columns["a"].values)


def test_few_words_among_numbers_are_a_mistake_that_is_located(tmp_path: Path) -> None:
    column = column_of(tmp_path, [*range(50), "unknown", *range(50)])

    assert column.kind is None
    assert "100 numbers and 1 other values ('unknown' in row 51)" == column.unfit
    assert '{"x": "numeric"}' in column.cure
    assert "numeric" in column.possible


def test_days_that_may_be_months_are_no_dates(tmp_path: Path) -> None:
    column = column_of(tmp_path, ["1/2/2026", "3/4/2026"] * 20)

    assert "categorical" == column.kind
    assert any("day and month cannot be told apart" in remark for remark in column.remarks)


@pytest.mark.parametrize("values", [[f"K-{i}" for i in range(N_ROWS)], [str(i + 17) for i in range(N_ROWS)]])
def test_identifier_is_suspected(tmp_path: Path, values: list[str]) -> None:
    column = column_of(tmp_path, values)

    assert column.identifier
    assert "looks like an identifier" in column.remarks[0]


def test_measurement_without_equal_values_is_no_identifier(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(N_ROWS)

    assert not column_of(tmp_path, values).identifier


def test_too_many_different_values_are_counted_up_to_a_limit(tmp_path: Path) -> None:
    column = column_of(tmp_path, (f"user{i % 30_000}{'x' * 150}" for i in range(40_000)))

    assert not column.distinct_is_exact
    assert 20_000 <= column.distinct < 30_000
    assert column.identifier


def test_profile_survives_being_stored(tmp_path: Path) -> None:
    profile = profile_of_text(tmp_path, csv_of({"a": ["x", "", "y"], "b": [1, 2, 2]}))

    import orjson

    assert profile == Profile.from_json(orjson.loads(orjson.dumps(profile.to_json())))


def test_rows_that_are_copies_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 30))) for _ in range(3000)]
    numbers = rng.integers(0, 10, 3000)
    rows = list(zip(words, numbers, strict=True))

    profile = profile_of_text(tmp_path, csv_of({"w": [*words, *words[:17]], "n": [*numbers, *numbers[:17]]}))

    assert 3017 - len({*rows}) == profile.duplicate_rows
