"""Requests and answers of tensors: JSON, and behind it the raw bytes of those that are sent so.

A request is read with all its faults named, and nothing of its data is decoded before its shapes are known to be those
of the version's inputs (`matching.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import Fault, pointer
from models.rows import describe
from service.errors import InvalidRequest, NotReadable
from service.routes.v2.binary import BF16, BOOL, BYTES, DATATYPES, FP16, STORED, DoesNotFit, decode, encode

HEADER = b"inference-header-content-length"
HEADER_NAME = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
MOST_AXES = 8
MOST_FAULTS = 100
"""That are looked for: a body has room for a million, each of which costs memory and time."""
MOST_TENSORS = 10_000
_REQUEST = frozenset(("id", "model_name", "parameters", "inputs", "outputs"))
_INPUT = frozenset(("name", "shape", "datatype", "parameters", "data"))
_OUTPUT = frozenset(("name", "parameters"))
CONTENT_TYPES = {"np": "numbers", "str": "BYTES", "pd": "one tensor per feature"}
"""MLServer's names of what a tensor holds. They change nothing here: a tensor's datatype says as much."""


@dataclass(frozen=True, slots=True)
class GivenTensor:
    """An input as it was sent.

    Attributes:
        place: among the inputs.
        data: JSON, nested or flat; or raw bytes.
    """

    place: int
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | memoryview

    def values(self) -> NDArray[Any]:
        """Its array: numbers, booleans or strings (objects); null is NaN among numbers, None among strings.

        Raises:
            DoesNotFit: when the data are not of the datatype and shape.
        """
        if isinstance(self.data, memoryview):
            return decode(self.datatype, self.shape, self.data)
        return _values_of_json(self.datatype, self.shape, self.data)


@dataclass(frozen=True, slots=True)
class AskedOutput:
    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """A request whose tensors are not decoded yet.

    Attributes:
        id: as the client gave it; None where it gave none.
        parameters: those that are not about tensors being binary.
        outputs: what was asked for; None for what is given by default.
        binary: whether outputs that were not named are to be binary.
    """

    id: str | None
    parameters: dict[str, Any]
    inputs: tuple[GivenTensor, ...]
    outputs: tuple[AskedOutput, ...] | None
    binary: bool


@dataclass(frozen=True, slots=True)
class NamedArray:
    """An output: its array holds numbers, or for BYTES strings as objects."""

    name: str
    datatype: str
    array: NDArray[Any]


def split_body(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a body and the raw bytes behind it.

    Args:
        header: the value of `Inference-Header-Content-Length`; None where it was not sent, and all is JSON.

    Raises:
        NotReadable: for nothing at all, and a length that is none.
    """
    if header is None:
        if not body:
            raise NotReadable("The body is empty; a JSON object with inputs is expected.")
        return body, memoryview(b"")
    # More digits than a size has are no size, and Python refuses to read thousands of them.
    if not (header.isascii() and header.isdecimal() and len(header) < 20) or int(header) > len(body):
        expected = f"a number of bytes, at most the {len(body)} of the body"
        raise NotReadable(f"The header {HEADER_NAME} cannot be used: expected {expected}, received {describe(header)}.")
    length = int(header)
    # No JSON at all: the body is the one input.
    return body[:length], memoryview(body)[length:]


def parse_json(text: bytes) -> dict[str, Any]:
    """Raises `NotReadable` for what is no JSON object."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotReadable(
            f"The request is not JSON: {error.msg}, line {error.lineno}, column {error.colno}. NaN and Infinity are no "
            "JSON either: send null for a missing value, or binary tensors."
        ) from None
    if not isinstance(document, dict):
        raise NotReadable(f"The request is not a JSON object. Received: {describe(document)}.")
    return document


def read_request(document: dict[str, Any], raw: memoryview, model: str) -> TensorRequest:
    """A request for inference.

    Args:
        document: JSON, or what another form of the protocol says in its place; there the data of a tensor may be its
            raw bytes.
        raw: the bytes of its binary tensors, one after the other.
        model: that the path names; kserve's client says it again in the body.

    Raises:
        InvalidRequest: with every fault, but for those of the data themselves.
    """
    faults: list[Fault] = []
    _check_members(document, _REQUEST, (), faults)
    given_id = document.get("id")
    if given_id is not None and type(given_id) is not str:
        faults.append(Fault("#/id", "a string", describe(given_id)))
    if document.get("model_name", model) != model:
        faults.append(Fault("#/model_name", f"{model!r}, as the path says", describe(document["model_name"])))
    parameters = _parameters(document, (), faults)
    binary = _flag(parameters, "binary_data_output", (), faults) or False
    inputs = _read_inputs(document.get("inputs"), raw, faults)
    outputs = _read_outputs(document.get("outputs"), binary, faults)
    if faults:
        raise InvalidRequest(faults[:MOST_FAULTS])
    return TensorRequest(given_id, parameters, inputs, outputs, binary)


def _read_inputs(given: Any, raw: memoryview, faults: list[Fault]) -> tuple[GivenTensor, ...]:
    if type(given) is not list or not given:
        faults.append(Fault("#/inputs", "a list of at least one tensor", describe(given)))
        return ()
    if len(given) > MOST_TENSORS:
        faults.append(Fault("#/inputs", f"at most {MOST_TENSORS} tensors", f"{len(given)}"))
        return ()
    tensors, offset = [], 0
    for place, item in enumerate(given):
        if len(faults) > MOST_FAULTS:
            break
        if type(item) is not dict:
            faults.append(Fault(pointer("inputs", place), "a tensor, an object", describe(item)))
            continue
        tensor, size = _read_input(item, place, raw[offset:], faults)
        offset += size
        if tensor is not None:
            tensors.append(tensor)
    if not faults and offset != len(raw):
        expected = f"{offset} bytes behind the JSON, as the binary_data_size of the inputs say"
        faults.append(Fault("#/inputs", expected, f"{len(raw)} bytes"))
    return tuple(tensors)


def _read_input(
    item: dict[str, Any], place: int, raw: memoryview, faults: list[Fault]
) -> tuple[GivenTensor | None, int]:
    """A tensor (None where it has faults), and how many bytes it takes of those that are left."""
    at = ("inputs", place)
    before = len(faults)
    _check_members(item, _INPUT, at, faults)
    name, shape, datatype, data = item.get("name"), item.get("shape"), item.get("datatype"), item.get("data")
    if type(name) is not str:
        faults.append(Fault(pointer(*at, "name"), "a string", describe(name)))
    if type(shape) is not list or len(shape) > MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
        received = str(shape)[:60] if type(shape) is list else describe(shape)
        faults.append(Fault(pointer(*at, "shape"), "a list of sizes that are not negative", received))
    if datatype not in DATATYPES:
        faults.append(Fault(pointer(*at, "datatype"), f"one of {', '.join(DATATYPES)}", describe(datatype)))
    parameters = _parameters(item, at, faults)
    size = parameters.pop("binary_data_size", None)
    _check_content_type(parameters, at, faults)
    _refuse(parameters, at, faults)
    if type(data) is memoryview:
        if size not in (None, len(data)):
            expected = f"{len(data)}, as many bytes as there are"
            faults.append(Fault(pointer(*at, "parameters", "binary_data_size"), expected, describe(size)))
        size = 0
    elif size is None:
        size = 0
        if type(data) is not list:
            expected = "a list, or parameters.binary_data_size and the bytes behind the JSON"
            faults.append(Fault(pointer(*at, "data"), expected, describe(data)))
    elif "data" in item:
        faults.append(Fault(pointer(*at, "data"), "nothing: the tensor is binary", describe(data)))
    elif type(size) is not int or not 0 <= size <= len(raw):
        expected = f"a number of bytes, at most the {len(raw)} that are left behind the JSON"
        faults.append(Fault(pointer(*at, "parameters", "binary_data_size"), expected, describe(size)))
    else:
        data = raw[:size]
    if len(faults) > before:
        return None, size if type(size) is int and 0 <= size <= len(raw) else 0
    assert isinstance(name, str)
    assert isinstance(shape, list)
    assert isinstance(datatype, str)
    assert isinstance(data, list | memoryview)
    return GivenTensor(place, name, datatype, tuple(shape), data), size


def _read_outputs(given: Any, binary: bool, faults: list[Fault]) -> tuple[AskedOutput, ...] | None:
    if given is None or given == []:
        return None
    if type(given) is not list:
        faults.append(Fault("#/outputs", "a list of outputs", describe(given)))
        return None
    if len(given) > MOST_TENSORS:
        faults.append(Fault("#/outputs", f"at most {MOST_TENSORS} outputs", f"{len(given)}"))
        return None
    asked: dict[str, AskedOutput] = {}
    for place, item in enumerate(given):
        if len(faults) > MOST_FAULTS:
            break
        at = ("outputs", place)
        if type(item) is not dict or type(item.get("name")) is not str:
            faults.append(Fault(pointer(*at), "an object with a name", describe(item)))
            continue
        _check_members(item, _OUTPUT, at, faults)
        parameters = _parameters(item, at, faults)
        own = _flag(parameters, "binary_data", at, faults)
        _refuse(parameters, at, faults)
        if item["name"] in asked:
            faults.append(Fault(pointer(*at, "name"), "each output once", describe(item["name"])))
        asked[item["name"]] = AskedOutput(item["name"], binary if own is None else own)
    return tuple(asked.values())


def _check_members(item: dict[str, Any], known: frozenset[str], at: tuple[str | int, ...], faults: list[Fault]) -> None:
    if item.keys() <= known:
        return
    strangers = (name for name in item if name not in known)
    for name in islice(strangers, MOST_FAULTS):
        faults.append(Fault(pointer(*at, name), "no such member", describe(item[name])))


def _parameters(item: dict[str, Any], at: tuple[str | int, ...], faults: list[Fault]) -> dict[str, Any]:
    given = item.get("parameters")
    if given is None:
        return {}
    if type(given) is not dict:
        faults.append(Fault(pointer(*at, "parameters"), "an object", describe(given)))
        return {}
    return dict(given)


def _flag(parameters: dict[str, Any], name: str, at: tuple[str | int, ...], faults: list[Fault]) -> bool | None:
    value = parameters.pop(name, None)
    if value is not None and type(value) is not bool:
        faults.append(Fault(pointer(*at, "parameters", name), "true or false", describe(value)))
        return None
    return value


def _check_content_type(parameters: dict[str, Any], at: tuple[str | int, ...], faults: list[Fault]) -> None:
    kind = parameters.pop("content_type", None)
    if kind is not None and kind not in tuple(CONTENT_TYPES):
        expected = f"one of {', '.join(CONTENT_TYPES)}"
        faults.append(Fault(pointer(*at, "parameters", "content_type"), expected, describe(kind)))


def _refuse(parameters: dict[str, Any], at: tuple[str | int, ...], faults: list[Fault]) -> None:
    for name in list(parameters)[:MOST_FAULTS]:
        faults.append(Fault(pointer(*at, "parameters", name), "no such parameter", describe(parameters[name])))


def _values_of_json(datatype: str, shape: tuple[int, ...], data: list[Any]) -> NDArray[Any]:
    values = _flattened(data, shape)
    types = set(map(type, values))
    if datatype == BYTES:
        if not types <= {str, type(None)}:
            raise DoesNotFit("strings", _first_other(values, (str, type(None))))
        strings: NDArray[Any] = np.empty(len(values), dtype=object)
        strings[:] = values
        return strings.reshape(shape)
    if datatype in (FP16, BF16):
        raise DoesNotFit(f"binary data: JSON holds no {datatype}", "a list")
    if datatype == BOOL:
        if not types <= {bool}:
            raise DoesNotFit("true and false", _first_other(values, (bool,)))
        return np.array(values, dtype=np.bool_).reshape(shape)
    dtype = STORED[datatype]
    if dtype.kind != "f":
        if not types <= {int}:
            raise DoesNotFit("whole numbers", _first_other(values, (int,)))
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if values and not low <= min(values) <= max(values) <= high:
            raise DoesNotFit(f"numbers from {low} to {high}", f"numbers from {min(values)} to {max(values)}")
        return np.array(values, dtype=dtype).reshape(shape)
    if type(None) in types:
        values = [math.nan if value is None else value for value in values]
        types -= {type(None)}
    if not types <= {int, float}:
        raise DoesNotFit("numbers", _first_other(values, (int, float)))
    return np.array(values, dtype=np.float64).reshape(shape)


def _flattened(data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Nested or flat data in row-major order."""
    count = math.prod(shape)
    values = data
    if values and type(values[0]) is list and len(values) != shape[0]:
        raise DoesNotFit(f"{shape[0]} lists, as the shape says", f"{len(values)} lists")
    for size in shape[1:]:
        if not values or type(values[0]) is not list:
            break
        for value in values:
            if type(value) is not list or len(value) != size:
                received = f"a list of {len(value)}" if type(value) is list else describe(value)
                raise DoesNotFit(f"lists of {size} within one another, as shape {list(shape)} says", received)
        values = list(chain.from_iterable(values))
    if len(values) != count:
        raise DoesNotFit(f"{count} values for shape {list(shape)}", f"{len(values)} values")
    return values


def _first_other(values: Iterable[Any], types: tuple[type, ...]) -> str:
    return describe(next(value for value in values if type(value) not in types))


def write_answer(head: dict[str, Any], outputs: Sequence[tuple[NamedArray, bool]]) -> tuple[bytes, int | None]:
    """An answer's body, and the length of its JSON where binary tensors follow it.

    Args:
        head: the members before `outputs`.
        outputs: each with whether it is to be binary.
    """
    tails: list[bytes] = []
    documents = []
    for output, binary in outputs:
        document = {"name": output.name, "datatype": output.datatype, "shape": output.array.shape}
        if binary:
            tails.append(encode(output.datatype, output.array))
            document["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            flat = output.array.reshape(-1)
            document["data"] = flat.tolist() if flat.dtype == object else np.ascontiguousarray(flat)
        documents.append(document)
    body = orjson.dumps({**head, "outputs": documents}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(binary for _, binary in outputs):
        return body, None
    return b"".join((body, *tails)), len(body)


def as_parameters(document: dict[str, Any]) -> dict[str, str | int | float | bool]:
    """A document as parameters, which are strings, numbers and booleans: what is neither is its JSON, null is left
    out.
    """
    return {
        name: value if isinstance(value, str | int | float | bool) else orjson.dumps(value).decode()
        for name, value in document.items()
        if value is not None
    }
