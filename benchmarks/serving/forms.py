"""How each protocol writes rows into a request, and where its answer holds the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson

from benchmarks.serving.subjects import Subject, with_both_labels

HEADER_LENGTH = "Inference-Header-Content-Length"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """A POST."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    def raw(self, host: str) -> bytes:
        """The bytes that go over the connection, which is kept."""
        headers = {"Host": host, **self.headers, "Content-Length": str(len(self.body))}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Form(Protocol):
    """A protocol's way to ask for rows `(n_rows, *row_shape)`."""

    def ask(self, subject: Subject, rows: np.ndarray, *, model: str | None = None) -> Request:
        """The request; `model` where the rows are asked of a copy under another name."""
        ...

    def read(self, subject: Subject, headers: Mapping[str, str], body: bytes) -> np.ndarray:
        """The outputs of an answer, `(n_rows, n_outputs)`."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """`{"inputs": ...}` to a path that may name the model; the answer is a list, or an object's `predictions`."""

    path: str

    def ask(self, subject: Subject, rows: np.ndarray, *, model: str | None = None) -> Request:
        name = model or subject.name
        return Request(self.path.format(model=name), {"Content-Type": JSON}, _json({"model": name, "inputs": rows}))

    def read(self, subject: Subject, headers: Mapping[str, str], body: bytes) -> np.ndarray:
        del subject, headers
        answer = orjson.loads(body)
        outputs = answer["predictions"] if isinstance(answer, dict) else answer
        return with_both_labels(np.asarray(outputs, np.float64))


@dataclass(frozen=True, slots=True)
class InputsAlone(Plain):
    """As `Plain`, for a server that takes no other member in the body."""

    def ask(self, subject: Subject, rows: np.ndarray, *, model: str | None = None) -> Request:
        return Request(self.path.format(model=model or subject.name), {"Content-Type": JSON}, _json({"inputs": rows}))


@dataclass(frozen=True, slots=True)
class FixedAnswer(Plain):
    """As `Plain`, for a route that answers so many rows with the same bytes, whatever they are."""

    path: str = "/{model}-{n_rows}"

    def ask(self, subject: Subject, rows: np.ndarray, *, model: str | None = None) -> Request:
        name = model or subject.name
        path = self.path.format(model=name, n_rows=len(rows))
        return Request(path, {"Content-Type": JSON}, _json({"model": name, "inputs": rows}))


@dataclass(frozen=True, slots=True)
class Native(Plain):
    """Our own `POST /predict`, or another route with the same body. Rows of columns go in signature order."""

    path: str = "/predict"

    def read(self, subject: Subject, headers: Mapping[str, str], body: bytes) -> np.ndarray:
        del headers
        predictions = orjson.loads(body)["predictions"]
        return np.array([[row["probabilities"][label] for label in subject.labels] for row in predictions])


@dataclass(frozen=True, slots=True)
class V2:
    """The Open Inference Protocol over HTTP, with tensors as JSON or as bytes after it.

    Attributes:
        inputs: of each model, the names of its input tensors: one for all columns, or one for each.
        row_shapes: of each model, the shape of a row in its tensor.
    """

    inputs: Mapping[str, Sequence[str]]
    row_shapes: Mapping[str, tuple[int, ...]]
    binary: bool

    def ask(self, subject: Subject, rows: np.ndarray, *, model: str | None = None) -> Request:
        name = model or subject.name
        parts = self.split(subject.name, rows)
        inputs, tail = [], []
        for tensor, values in parts.items():
            described: dict[str, Any] = {"name": tensor, "shape": list(values.shape), "datatype": "FP32"}
            if self.binary:
                tail.append(values.tobytes())
                described["parameters"] = {"binary_data_size": values.nbytes}
            else:
                described["data"] = values.reshape(-1)
            inputs.append(described)
        asked: dict[str, Any] = {"inputs": inputs}
        if self.binary:
            asked["outputs"] = [{"name": "output", "parameters": {"binary_data": True}}]
        head = _json(asked)
        headers = {"Content-Type": JSON}
        if self.binary:
            headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        return Request(f"/v2/models/{name}/infer", headers, head + b"".join(tail))

    def split(self, model: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The rows as float32 tensors, by their names."""
        rows = np.asarray(rows, np.float32)
        names, shape = self.inputs[model], self.row_shapes[model]
        if len(names) == 1:
            return {names[0]: rows.reshape(len(rows), *shape)}
        return {
            name: np.ascontiguousarray(rows[:, place]).reshape(len(rows), *shape) for place, name in enumerate(names)
        }

    def read(self, subject: Subject, headers: Mapping[str, str], body: bytes) -> np.ndarray:
        del subject
        length = next((int(value) for name, value in headers.items() if name.lower() == HEADER_LENGTH.lower()), None)
        answer = orjson.loads(body if length is None else body[:length])
        output = answer["outputs"][0]
        if "data" in output:
            values = np.asarray(output["data"], np.float64)
        else:
            dtype = {"FP32": "<f4", "FP64": "<f8"}[output["datatype"]]
            values = np.frombuffer(body[length:], dtype).astype(np.float64)
        return with_both_labels(values.reshape(output["shape"][0], -1))


def requests_of(form: Form, subject: Subject, n_rows: int, n_requests: int) -> list[Request]:
    """So many different requests of so many rows each, taken from the subject's rows in turn."""
    starts = np.arange(n_requests)[:, np.newaxis] * n_rows
    places = (starts + np.arange(n_rows)) % len(subject.rows)
    return [form.ask(subject, subject.rows[at]) for at in places]


def _json(content: Any) -> bytes:
    # float32 arrays are written with the fewest digits that give the same float32 again
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
