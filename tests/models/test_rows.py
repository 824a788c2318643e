"""Rows of a request become one array, or every fault of every row is named."""

from typing import Any

import numpy as np
import pytest

from models.datasets import load_builtin
from models.errors import Fault, InvalidRows, UnknownModel, UnknownVersion, pointer
from models.rows import check_array, decode_rows
from models.signature import Feature, Signature

COLUMNS = Signature(
    features=tuple(Feature(name, "numeric", (), (0.0, 1.0)) for name in ("age", "bmi", "s/1")),
    task="regression",
    target="progression",
    ignored=("ssn",),
)
IMAGE = Signature(
    features=(Feature("image", "image", (2, 3, 1), (0.0, 16.0)),),
    task="classification",
    target="digit",
    labels=("a", "b"),
)
COLOUR = Signature(
    features=(Feature("photo", "image", (1, 2, 3), (0.0, 255.0)),),
    task="classification",
    target="kind",
    labels=("a", "b"),
)
GOOD = {"age": 1, "bmi": 2.5, "s/1": -3}
A_NUMBER = "a finite number"
A_PIXEL = "a number from 0 to 16"
AN_IMAGE = "an image of 2 x 3 x 1 numbers from 0 to 16"


def test_rows_by_name_and_by_place_become_one_array_in_signature_order() -> None:
    rows = [{"s/1": -3, "age": 1, "bmi": 2.5}, [4, 5.5, 6]]

    array = decode_rows(rows, COLUMNS)

    assert np.float32 == array.dtype
    np.testing.assert_array_equal(array, [[1, 2.5, -3], [4, 5.5, 6]])


def test_target_and_ignored_columns_are_accepted_and_dropped() -> None:
    rows = [{**GOOD, "progression": 150.0, "ssn": "078-05-1120"}]

    array = decode_rows(rows, COLUMNS)

    np.testing.assert_array_equal(array, [[1, 2.5, -3]])


def test_no_rows_make_an_array_of_no_rows() -> None:
    assert (0, 3) == decode_rows([], COLUMNS).shape
    assert (0, 2, 3, 1) == decode_rows([], IMAGE).shape


@pytest.mark.parametrize("name", ["wine", "diabetes", "digits"])
def test_decoding_equals_plain_conversion(name: str) -> None:
    dataset = load_builtin(name)
    expected = np.asarray(dataset.inputs[:50].tolist(), dtype=np.float32)

    by_place = decode_rows(dataset.inputs[:50].tolist(), dataset.signature)

    np.testing.assert_array_equal(expected, by_place)


def test_every_fault_of_every_row_is_reported_at_once() -> None:
    rows: list[Any] = [
        GOOD,
        {"age": "34", "bmi": True, "s/1": None},
        {"age": 1, "weight": 70},
        {"age": float("nan"), "bmi": float("inf"), "s/1": -float("inf")},
        [1, 2],
        [1, "2", 3],
        "a row",
        17,
        {"age": [1], "bmi": {}, "s/1": 0},
    ]

    faults = faults_of(rows, COLUMNS)

    assert faults == [
        Fault("#/inputs/1/age", A_NUMBER, "the string '34'"),
        Fault("#/inputs/1/bmi", A_NUMBER, "the boolean true"),
        Fault("#/inputs/1/s~11", A_NUMBER, "null"),
        Fault("#/inputs/2/bmi", A_NUMBER, "nothing", "missing feature"),
        Fault("#/inputs/2/s~11", A_NUMBER, "nothing", "missing feature"),
        Fault("#/inputs/2/weight", "no such feature", "the number 70", "not in the signature"),
        Fault("#/inputs/3/age", A_NUMBER, "the number nan"),
        Fault("#/inputs/3/bmi", A_NUMBER, "the number inf"),
        Fault("#/inputs/3/s~11", A_NUMBER, "the number -inf"),
        Fault("#/inputs/4", "3 values in signature order", "2 values"),
        Fault("#/inputs/5/1", A_NUMBER, "the string '2'"),
        Fault("#/inputs/6", "an object by feature name, or a list in signature order", "the string 'a row'"),
        Fault("#/inputs/7", "an object by feature name, or a list in signature order", "the number 17"),
        Fault("#/inputs/8/age", A_NUMBER, "a list of 1 values"),
        Fault("#/inputs/8/bmi", A_NUMBER, "an object with 0 keys"),
    ]


@pytest.mark.parametrize("number", [1e39, 1e300, -1e300, 10**39, 10**400], ids=lambda number: f"{str(number)[:6]}")
@pytest.mark.parametrize("signature", [COLUMNS, IMAGE], ids=["columns", "image"])
def test_number_too_large_for_float32_is_a_fault_of_its_place(number: float, signature: Signature) -> None:
    """Among them whole numbers of hundreds of digits, which not even a float64 holds."""
    is_image = signature.image is not None
    row: Any = [[1, 2, 3], [4, number, 6]] if is_image else {**GOOD, "bmi": number}

    faults = faults_of([row], signature)

    assert faults == [
        Fault(
            "#/inputs/0/1/1" if is_image else "#/inputs/0/bmi",
            A_PIXEL if is_image else A_NUMBER,
            f"the number {number}"[:60],
        )
    ]


def test_largest_float32_is_accepted() -> None:
    largest = float(np.finfo(np.float32).max)

    array = decode_rows([[largest, -largest, 0]], COLUMNS)

    np.testing.assert_array_equal(array, np.array([[largest, -largest, 0]], dtype=np.float32))


def test_pointers_escape_the_slash_of_a_feature_name() -> None:
    wine = load_builtin("wine").signature
    row = dict.fromkeys(wine.feature_names, 1.0) | {"od280/od315_of_diluted_wines": "3.92"}

    (fault,) = faults_of([row], wine)

    assert "#/inputs/0/od280~1od315_of_diluted_wines" == fault.pointer
    assert "#/a~1b/~01/0" == pointer("a/b", "~1", 0)


def test_names_as_long_as_a_request_are_not_sent_back_whole() -> None:
    name = "x" * 100_000

    said = [pointer("inputs", name), str(UnknownModel(name, [])), str(UnknownVersion("m", name, [], []))]

    assert all("xxx..." in text and len(text) < 400 for text in said)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([[0, 1, 2], [3, 4, 16]], id="bare, without a channel axis"),
        pytest.param([[[0], [1], [2]], [[3], [4], [16]]], id="bare, with a channel axis"),
        pytest.param({"image": [[0, 1, 2], [3, 4, 16]]}, id="by name"),
        pytest.param({"image": [[[0], [1], [2]], [[3], [4], [16]]], "digit": 3}, id="by name, with the target"),
    ],
)
def test_image_rows_of_every_form_are_the_same_image(row: Any) -> None:
    array = decode_rows([row], IMAGE)

    np.testing.assert_array_equal(array, np.array([[[[0], [1], [2]], [[3], [4], [16]]]], dtype=np.float32))


def test_colour_image_keeps_its_channels() -> None:
    array = decode_rows([[[[1, 2, 3], [4, 5, 6]]]], COLOUR)

    np.testing.assert_array_equal(array, [[[[1, 2, 3], [4, 5, 6]]]])


def test_every_fault_of_every_image_is_reported_at_once() -> None:
    rows: list[Any] = [
        [[0, 1, 2], [3, 4, 5]],
        [[0, 16.5, 2], [-1, 4, "5"]],
        [[0, 1, 2]],
        [[0, 1], [3, 4, 5]],
        [[0, [1, 2], 2], [3, 4, None]],
        {"picture": [[0, 1, 2], [3, 4, 5]]},
        {"image": [[[0], [1], [True]], [[3], [4], [float("nan")]]]},
        None,
        {"image": {"b64": ""}},
    ]

    faults = faults_of(rows, IMAGE)

    assert faults == [
        Fault("#/inputs/1/0/1", A_PIXEL, "the number 16.5"),
        Fault("#/inputs/1/1/0", A_PIXEL, "the number -1"),
        Fault("#/inputs/1/1/2", A_PIXEL, "the string '5'"),
        Fault("#/inputs/2", AN_IMAGE, "a list of 1 x 3 values"),
        Fault("#/inputs/3/0", "a line of 3 pixels", "a list of 2 values"),
        Fault("#/inputs/4/0/1", "a number", "a list of 2 values"),
        Fault("#/inputs/4/1/2", A_PIXEL, "null"),
        Fault("#/inputs/5/image", AN_IMAGE, "nothing", "missing feature"),
        Fault("#/inputs/5/picture", "no such feature", "a list of 2 x 3 values", "not in the signature"),
        Fault("#/inputs/6/image/0/2/0", A_PIXEL, "the boolean true"),
        Fault("#/inputs/6/image/1/2/0", A_PIXEL, "the number nan"),
        Fault("#/inputs/7", AN_IMAGE, "null"),
        Fault("#/inputs/8/image", AN_IMAGE, "an object with 1 keys"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([[0, [1], 2], [3, 4, 5]], id="a list among bare pixels"),
        pytest.param([[[0], [1], [2]], [[3], [4], 5]], id="a bare pixel among lists"),
    ],
)
def test_image_that_mixes_pixels_with_and_without_channels_is_refused_with_its_place(row: Any) -> None:
    """The quick way refused such an image while the search for faults found none: a 422 that named nothing."""
    assert faults_of([row], IMAGE) != []


@pytest.mark.parametrize("row", [[], [[], []], [[[]]], {}, {"image": []}, [[1, 2, 3], []]])
def test_empty_images_are_refused_with_a_place(row: Any) -> None:
    assert faults_of([row], IMAGE) != []


def test_message_counts_the_faults() -> None:
    with pytest.raises(InvalidRows, match=r"^2 values in the inputs cannot be used\.$"):
        decode_rows([[1, 2, "3"], [None, 1, 2]], COLUMNS)
    with pytest.raises(InvalidRows, match=r"^1 value in the inputs cannot be used\.$"):
        decode_rows([[1, 2, "3"]], COLUMNS)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i8", "|u1", ">f4"])
def test_whole_array_of_any_number_type_is_accepted(dtype: str) -> None:
    array = np.arange(6).reshape(1, 2, 3, 1).astype(dtype)

    checked = check_array(array, IMAGE)

    assert np.dtype(np.float32) == checked.dtype
    np.testing.assert_array_equal(checked, array)


@pytest.mark.parametrize(
    ("array", "received"),
    [
        (np.zeros((2, 4)), "float64 of shape (2, 4)"),
        (np.zeros(3), "float64 of shape (3,)"),
        (np.zeros((2, 3), dtype=bool), "bool of shape (2, 3)"),
        (np.zeros((2, 3), dtype=complex), "complex128 of shape (2, 3)"),
        (np.full((1, 3), "1"), "<U1 of shape (1, 3)"),
    ],
)
def test_whole_array_of_another_shape_or_type_is_refused(array: Any, received: str) -> None:
    with pytest.raises(InvalidRows) as refusal:
        check_array(array, COLUMNS)

    assert (Fault("#/inputs", "numbers of shape (rows, 3)", received),) == refusal.value.faults


def test_wrong_number_in_a_whole_array_is_named_by_its_place() -> None:
    columns, image = np.zeros((2, 3)), np.zeros((1, 2, 3, 1))
    columns[1, 2], image[0, 1, 2, 0] = np.nan, 17

    with pytest.raises(InvalidRows) as of_columns:
        check_array(columns, COLUMNS)
    with pytest.raises(InvalidRows) as of_image:
        check_array(image, IMAGE)

    assert (Fault("#/inputs/1/2", A_NUMBER, "the number nan"),) == of_columns.value.faults
    assert (Fault("#/inputs/0/1/2/0", A_PIXEL, "the number 17.0"),) == of_image.value.faults


def test_number_of_a_whole_array_too_large_for_float32_is_named_by_its_place() -> None:
    array = np.array([[1.0, 1e300, 2.0]])

    with pytest.raises(InvalidRows) as refusal:
        check_array(array, COLUMNS)

    assert (Fault("#/inputs/0/1", A_NUMBER, "the number 1e+300"),) == refusal.value.faults


def faults_of(rows: list[Any], signature: Signature) -> list[Fault]:
    with pytest.raises(InvalidRows) as refusal:
        decode_rows(rows, signature)
    return list(refusal.value.faults)
