"""From a V1 document to rows as `POST /predict` takes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from models.errors import Fault, InvalidRows, describe, pointer
from models.signature import Feature, Signature
from service.routes.v1.errors import MalformedRequest

SIGNATURE_NAME = "serving_default"
INSTANCES, INPUTS, EXAMPLES, CONTEXT, SIGNATURE = "instances", "inputs", "examples", "context", "signature_name"
_STRINGS = ("categorical", "date", "text")

Key = Literal["instances", "inputs", "examples"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a request.

    Attributes:
        key: where they were.
        is_columnar: they came as a list for each named input.
    """

    values: list[Any]
    key: Key
    is_columnar: bool = False


def check_document(document: Any, known: Iterable[str]) -> dict[str, Any]:
    """Refuses what is no object, keys that would have no effect, and signatures that there are not."""
    if not isinstance(document, dict):
        raise MalformedRequest(f"JSON Value: {describe(document)} Is not object")
    names = [*known, SIGNATURE]
    if unknown := [name for name in document if name not in names]:
        listed = ", ".join(repr(name[:40]) for name in unknown[:10])
        raise MalformedRequest(f"Unexpected key {listed}. Known here: {', '.join(names)}")
    signature = document.get(SIGNATURE, "")
    if not isinstance(signature, str):
        raise MalformedRequest(
            f"JSON Value: {describe(signature)} not formatted correctly. 'signature_name' key must be a string value."
        )
    if signature not in ("", SIGNATURE_NAME):
        raise MalformedRequest(
            f'Serving signature name: "{signature[:40]}" not found in signature def. There is "{SIGNATURE_NAME}".'
        )
    return document


def rows_of(document: Mapping[str, Any], max_rows: int) -> Rows:
    """The rows of `:predict` and `:explain`: row format (`instances`), column format (`inputs`: an object), or
    KServe's list of rows under `inputs`. They are counted before anything is made of them."""
    if INSTANCES in document and INPUTS in document:
        raise MalformedRequest(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist, received both"
        )
    if INSTANCES in document:
        return Rows(_listed(document[INSTANCES], INSTANCES, max_rows), INSTANCES)
    if INPUTS not in document:
        raise MalformedRequest("Missing 'inputs' or 'instances' key")
    inputs = document[INPUTS]
    if is_base64(inputs):
        return Rows([inputs], INPUTS, is_columnar=True)
    if isinstance(inputs, dict):
        return Rows(_rows_of_columns(inputs, max_rows), INPUTS, is_columnar=True)
    return Rows(_listed(inputs, INPUTS, max_rows), INPUTS)


def examples_of(document: Mapping[str, Any], signature: Signature, method: str, max_rows: int) -> Rows:
    """The rows of `:classify` and `:regress`: each a tf.Example as JSON, over what `context` says for all."""
    if EXAMPLES not in document:
        raise MalformedRequest(f"When method is {method}, key 'examples' is expected and was not found")
    context = document.get(CONTEXT, {})
    if not isinstance(context, dict):
        raise MalformedRequest(f"Example must be JSON object but got {describe(context)} as 'context'")
    known = {*signature.feature_names, signature.target, *signature.ignored}
    if unknown := [name for name in context if name not in known]:
        raise MalformedRequest(f"Feature '{unknown[0][:40]}' of 'context' is not in the signature")
    examples = _listed(document[EXAMPLES], EXAMPLES, max_rows)
    for place, example in enumerate(examples):
        if not isinstance(example, dict):
            raise MalformedRequest(f"Example must be JSON object but got {describe(example)} at item {place}")
    features = {feature.name: feature for feature in signature.features}
    merged = [
        {
            name: _example_value(features[name], value) if name in features else value
            for name, value in {**context, **example}.items()
        }
        for example in examples
    ]
    return Rows(merged, EXAMPLES)


def is_base64(value: Any) -> bool:
    """Whether a value is bytes as TensorFlow Serving writes them: `{"b64": "..."}`."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def with_strings(rows: Rows, signature: Signature) -> Rows:
    """Rows whose strings that came as bytes are strings. The bytes of images are left to whoever reads images.

    Raises:
        InvalidRows: naming each value that is no base64, or whose bytes are no UTF-8.
    """
    strings = {feature.name: feature for feature in signature.features if feature.kind in _STRINGS}
    if not strings:
        return rows
    faults: list[Fault] = []

    def read(value: Any, *place: str | int) -> Any:
        if not is_base64(value):
            return value
        try:
            return base64.b64decode(value["b64"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            faults.append(Fault(pointer("inputs", *place), "base64 of a UTF-8 string", describe(value["b64"])))
            return value

    def read_row(row: Any, place: int) -> Any:
        if signature.kind == "text" and is_base64(row):
            return read(row, place)
        if isinstance(row, dict):
            return {name: read(value, place, name) if name in strings else value for name, value in row.items()}
        if isinstance(row, list) and len(row) == len(signature.features):
            return [
                read(value, place, i) if feature.name in strings else value
                for i, (feature, value) in enumerate(zip(signature.features, row, strict=True))
            ]
        return row

    values = [read_row(row, place) for place, row in enumerate(rows.values)]
    if faults:
        raise InvalidRows(faults)
    return Rows(values, rows.key, rows.is_columnar)


def _listed(value: Any, key: str, max_rows: int) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedRequest(f"Expecting '{key}' to be an list/array, received {describe(value)}")
    if not value:
        raise MalformedRequest(f"No values in '{key}' array")
    _check_count(len(value), key, max_rows)
    return value


def _check_count(n_rows: int, key: str, max_rows: int) -> None:
    if n_rows > max_rows:
        raise MalformedRequest(f"'{key}' has {n_rows} rows: at most {max_rows} a request")


def _rows_of_columns(columns: dict[str, Any], max_rows: int) -> list[Any]:
    """A list for each named input to an object for each row."""
    if not columns:
        raise MalformedRequest("No values in 'inputs' object")
    for name, column in columns.items():
        if not isinstance(column, list):
            raise MalformedRequest(
                f"Expecting input '{name[:40]}' of 'inputs' object to be a list with a value for each row, "
                f"received {describe(column)}"
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name[:40]}: {length}" for name, length in list(lengths.items())[:10])
        raise MalformedRequest(f"Input tensors must have equal 0th-dimension size, received {listed}")
    n_rows = next(iter(lengths.values()))
    if not n_rows:
        raise MalformedRequest("No values in 'inputs' object")
    _check_count(n_rows, INPUTS, max_rows)
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _example_value(feature: Feature, value: Any) -> Any:
    """A value of a tf.Example, which knows flat lists alone, in the shape of its feature."""
    if not isinstance(value, list):
        return value
    if feature.kind not in ("image", "series"):
        return value[0] if len(value) == 1 else value
    if any(isinstance(item, list) for item in value):
        return value
    for size in reversed(feature.shape[1:]):
        if len(value) % size:
            return value
        value = [value[start : start + size] for start in range(0, len(value), size)]
    return value
