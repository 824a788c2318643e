"""A specification is checked against what is in a file: every column that cannot be used is named, with a cure."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import csv_of, digit_images, write

from models.errors import Fault, InvalidSpec
from models.sources.folder import DataFolder
from models.spec import TrainingSpec, parse_spec

N_ROWS = 60
TABLE: dict[str, list[Any]] = {
    "age": [20 + i % 37 for i in range(N_ROWS)],
    "dose": [i / 8 for i in range(N_ROWS)],
    "outcome": [("no", "yes")[i % 3 == 0] for i in range(N_ROWS)],
}


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    (tmp_path / "data").mkdir()
    return DataFolder(tmp_path / "data")


def parsed(folder: DataFolder, columns: dict[str, Any], **keys: Any) -> TrainingSpec:
    write(folder.root / "t.csv", csv_of(columns))
    document = {"model": "m", "dataset": {"path": "t.csv"}, "target": "outcome", **keys}
    return parse_spec({name: value for name, value in document.items() if value is not None}, folder.facts_of)


def fault_of(folder: DataFolder, columns: dict[str, Any], **keys: Any) -> Fault:
    with pytest.raises(InvalidSpec) as refused:
        parsed(folder, columns, **keys)
    (fault,) = refused.value.faults
    return fault


@pytest.mark.parametrize(
    ("target", "task", "positive_label"),
    [("outcome", "classification", "yes"), ("dose", "regression", None), ("age", "regression", None)],
)
def test_task_and_labels_follow_from_the_target(
    folder: DataFolder, target: str, task: str, positive_label: str | None
) -> None:
    columns = TABLE if target == "outcome" else {name: TABLE[name] for name in ("age", "dose")}

    spec = parsed(folder, columns, target=target)

    assert (task, positive_label) == (spec.task, spec.positive_label)


def test_few_whole_numbers_are_labels_unless_they_are_said_to_be_a_quantity(folder: DataFolder) -> None:
    columns = {**TABLE, "outcome": [i % 3 for i in range(N_ROWS)]}

    assert "classification" == parsed(folder, columns).task
    assert "regression" == parsed(folder, columns, task="regression").task


def test_labels_of_numbers_are_in_the_order_of_numbers(folder: DataFolder) -> None:
    write(folder.root / "t.csv", csv_of({**TABLE, "outcome": [(10, 9, 1)[i % 3] for i in range(N_ROWS)]}))
    spec = parse_spec({"model": "m", "dataset": {"path": "t.csv"}, "target": "outcome"}, folder.facts_of)

    assert ("1", "9", "10") == folder.facts_of(spec).labels


@pytest.mark.parametrize(
    ("columns", "keys", "place", "received", "cure"),
    [
        pytest.param({}, {"target": None}, "#/target", "nothing", "required", id="no target named"),
        pytest.param({}, {"target": "income"}, "#/target", "'income'", "no such column", id="no such target"),
        pytest.param(
            {"outcome": [""] * N_ROWS}, {}, "#/target", "missing in every row", "its values", id="target all missing"
        ),
        pytest.param(
            {"outcome": ["no"] * N_ROWS}, {}, "#/target", "'no' in all 60 rows", "other labels", id="one label"
        ),
        pytest.param(
            {"outcome": [1.5] * N_ROWS}, {}, "#/target", "1.5 in every row", "other values", id="constant target"
        ),
        pytest.param({}, {"task": "regression"}, "#/target", "categorical", '"classification"', id="words as numbers"),
        pytest.param(
            {"outcome": [i / 7 for i in range(N_ROWS)]}, {"task": "classification"}, "#/target", "fractions",
            "regression", id="fractions as labels",
        ),
        pytest.param(
            {"outcome": [f"k{i}" for i in range(2000)], "age": range(2000), "dose": range(2000)}, {}, "#/target",
            "2,000 different values", "another target", id="an identifier as target",
        ),
        pytest.param({"dose": [""] * N_ROWS}, {}, "#/features/dose", "no value at all", '"ignore"', id="all missing"),
        pytest.param(
            {"dose": ["n/k", *range(1, N_ROWS)]}, {}, "#/features/dose", "'n/k' in row 1", '"numeric"', id="mixed types"
        ),
        pytest.param(
            {"dose": [f"id-{i}" for i in range(N_ROWS)]}, {}, "#/features/dose", "an identifier", '"ignore"',
            id="an identifier",
        ),
        pytest.param(
            {"dose": ["inf", *range(1, N_ROWS)]}, {}, "#/features/dose", "1 infinite values", "correct", id="infinity"
        ),
        pytest.param(
            {}, {"features": {"dose": "date"}}, "#/features/dose", "'date'", "", id="a kind that does not fit"
        ),
        pytest.param({}, {"positive_label": "maybe"}, "#/positive_label", "'maybe'", "", id="no such label"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_named_with_a_cure(
    folder: DataFolder, columns: dict[str, Any], keys: dict[str, Any], place: str, received: str, cure: str
) -> None:
    fault = fault_of(folder, {**TABLE, **columns}, **keys)

    assert place == fault.pointer
    assert received in fault.received
    assert cure in fault.detail


def test_million_categories_are_refused_however_they_are_asked_for(folder: DataFolder) -> None:
    n_rows = 25_000
    columns = {
        "user": [f"u{i}{'x' * 300}" for i in range(n_rows)],
        "outcome": [("no", "yes")[i % 2] for i in range(n_rows)],
    }

    fault = fault_of(folder, columns, features={"user": "categorical"})

    assert ("#/features/user", "at most 10,000 categories") == (fault.pointer, fault.expected)
    assert '{"user": "ignore"}' in fault.detail


def test_ignoring_a_column_cures_what_is_wrong_with_it(folder: DataFolder) -> None:
    columns = {**TABLE, "bad": ["n/k", *range(1, N_ROWS)], "id": [f"id-{i}" for i in range(N_ROWS)]}

    spec = parsed(folder, columns, features={"bad": "ignore", "id": "ignore"})

    raw, facts = folder.read(spec)
    assert ("age", "dose") == facts.features
    assert ("bad", "id") == facts.ignored
    assert N_ROWS == raw.n_rows


def test_rows_without_a_target_are_left_out(folder: DataFolder) -> None:
    outcomes = [("no", "yes", "")[i % 3] for i in range(N_ROWS)]
    spec = parsed(folder, {**TABLE, "outcome": outcomes})

    raw, _ = folder.read(spec)

    assert 40 == raw.n_rows
    assert [age for age, outcome in zip(TABLE["age"], outcomes, strict=True) if outcome] == raw.columns[
        "age"
    ].values.tolist()


def test_row_keeps_its_digest_when_kinds_columns_and_rows_change_place(folder: DataFolder) -> None:
    spec = parsed(folder, {**TABLE, "code": [i % 4 for i in range(N_ROWS)]})
    before = folder.read(spec)[0].row_digests

    ignored, _ = folder.read(spec.model_copy(update={"features": {"code": "ignore"}}))
    turned = {
        name: [*reversed(values)]
        for name, values in reversed({**TABLE, "code": [i % 4 for i in range(N_ROWS)]}.items())
    }
    write(folder.root / "t.csv", csv_of(turned, ";"))
    moved, _ = folder.read(spec)

    assert N_ROWS == len(set(before))
    assert before == ignored.row_digests
    assert before == tuple(reversed(moved.row_digests))


@pytest.mark.parametrize(
    "path",
    ["../secret.csv", "/etc/passwd", "sub/../../secret.csv", "link.csv", "sub/away/secret.csv", "nothing.csv", "",
     "uploads/x", ".profiles/x", ".", "sub"],
)  # fmt: skip
def test_path_that_is_no_file_in_the_folder_is_refused(tmp_path: Path, folder: DataFolder, path: str) -> None:
    write(tmp_path / "secret.csv", csv_of(TABLE))
    (folder.root / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder.root / "sub").mkdir()
    (folder.root / "sub" / "away").symlink_to(tmp_path)

    with pytest.raises(InvalidSpec) as refused:
        parse_spec({"model": "m", "dataset": {"path": path}, "target": "outcome"}, folder.facts_of)

    assert ["#/dataset/path"] == [fault.pointer for fault in refused.value.faults]


def test_file_in_a_folder_of_the_data_folder_is_found_and_a_link_within_it_followed(folder: DataFolder) -> None:
    (folder.root / "sub").mkdir()
    write(folder.root / "sub" / "t.csv", csv_of(TABLE))
    (folder.root / "latest.csv").symlink_to(folder.root / "sub" / "t.csv")

    for path in ("sub/t.csv", "latest.csv"):
        spec = parse_spec({"model": "m", "dataset": {"path": path}, "target": "outcome"}, folder.facts_of)
        assert "outcome" == spec.target


def test_file_that_has_changed_is_looked_through_again(folder: DataFolder) -> None:
    spec = parsed(folder, TABLE)
    before = folder.profile(spec.dataset)

    write(folder.root / "t.csv", csv_of({name: [*values, values[0]] for name, values in TABLE.items()}))

    assert (N_ROWS, N_ROWS + 1) == (before.rows, folder.profile(spec.dataset).rows)
    assert before.sha256 != folder.profile(spec.dataset).sha256


def test_unreadable_file_is_a_fault_of_the_dataset(folder: DataFolder) -> None:
    write(folder.root / "t.csv", b"a,b\n1,\xff\n")

    with pytest.raises(InvalidSpec) as refused:
        parse_spec({"model": "m", "dataset": {"path": "t.csv"}, "target": "b"}, folder.facts_of)

    (fault,) = refused.value.faults
    assert ("#/dataset/path", "text in UTF-8") == (fault.pointer, fault.expected)


def test_report_for_a_target_leaves_out_what_a_specification_must_decide(folder: DataFolder) -> None:
    from models.sources.inspecting import report_for_target

    columns = {**TABLE, "id": [f"id-{i}" for i in range(N_ROWS)], "mixed": ["n/k", *range(1, N_ROWS)]}
    path = write(folder.root / "t.csv", csv_of(columns))

    report = report_for_target(path, folder.inspect(path), "outcome")

    assert ["id", "mixed"] == report["undecided"]
    assert {"age": "numeric", "dose": "numeric"} == report["features"]
    assert {"no": 40, "yes": 20} == report["labels"]


def test_images_need_no_target(folder: DataFolder) -> None:
    digit_images(folder.root / "digits.zip", 40)

    spec = parse_spec({"model": "m", "dataset": {"path": "digits.zip"}}, folder.facts_of)

    assert ("label", "classification") == (spec.target, spec.task)
    assert spec.architecture is not None
    assert "cnn" == spec.architecture.type
    raw, facts = folder.read(spec)
    assert tuple("0123456789") == facts.labels
    assert (40, 8, 8, 1) == raw.columns["image"].values.shape


@pytest.mark.parametrize(
    "dataset", [{}, {"builtin": "iris", "path": "t.csv"}, {"id": "x", "path": "y"}, {"builtin": None}]
)
def test_dataset_is_named_in_exactly_one_way(dataset: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec({"model": "m", "dataset": dataset})

    (fault,) = refused.value.faults
    assert ("#/dataset", "exactly one of builtin, id, path") == (fault.pointer, fault.expected)


def test_rows_of_a_file_are_those_of_the_data_set(folder: DataFolder) -> None:
    from models.loading import load_data

    spec = parsed(folder, TABLE)

    loaded = load_data(spec, folder)

    np.testing.assert_array_equal(np.column_stack([TABLE["age"], TABLE["dose"]]), loaded.dataset.inputs)
    assert ("no", "yes") == loaded.dataset.signature.labels
    np.testing.assert_array_equal([outcome == "yes" for outcome in TABLE["outcome"]], loaded.dataset.targets)
    assert loaded.raw.row_digests == loaded.dataset.row_digests
    assert folder.profile(spec.dataset).sha256 == loaded.raw.digest
