"""What the kit knows of the protocol: how tensors are written, and requests that a model should take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any

import httpx
import numpy as np
import pytest

DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
DATATYPES = (*DTYPES, "BF16", "BYTES")
HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Target:
    """A model of a server, and inputs that it takes."""

    client: httpx.Client
    model: str
    metadata: dict[str, Any]
    extensions: tuple[str, ...]
    inputs: list[dict[str, Any]]

    @staticmethod
    def of(client: httpx.Client, model: str, inputs: list[dict[str, Any]] | None) -> Target:
        server = client.get("/v2").json()
        metadata = client.get(f"/v2/models/{model}").json()
        if inputs is None:
            inputs = [example(tensor) for tensor in metadata["inputs"]]
        return Target(client, model, metadata, tuple(server.get("extensions", ())), inputs)

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}"

    def needs(self, extension: str) -> None:
        """Skips a rule of an extension that the server does not name."""
        if extension not in self.extensions:
            pytest.skip(f"the server does not name the extension {extension}")

    def infer(self, **changes: Any) -> httpx.Response:
        return self.client.post(f"{self.path}/infer", json={"inputs": self.inputs} | changes)

    def infer_binary(
        self, inputs: list[dict[str, Any]], raw: bytes, *, header: str | None = None, **members: Any
    ) -> httpx.Response:
        text = json.dumps({"inputs": inputs} | members).encode()
        headers = {HEADER: str(len(text)) if header is None else header, "Content-Type": "application/octet-stream"}
        return self.client.post(f"{self.path}/infer", content=text + raw, headers=headers)

    def binary_inputs(self) -> tuple[list[dict[str, Any]], bytes]:
        """The inputs with their data behind the JSON."""
        described, raw = [], b""
        for tensor in self.inputs:
            data = as_bytes(tensor["datatype"], np.array(tensor["data"], dtype=object).reshape(-1).tolist())
            kept = {name: tensor[name] for name in ("name", "shape", "datatype")}
            described.append({**kept, "parameters": {"binary_data_size": len(data)}})
            raw += data
        return described, raw

    def repeated(self, times: int) -> list[dict[str, Any]]:
        """The inputs with each row several times."""
        return [
            tensor
            | {
                "shape": [tensor["shape"][0] * times, *tensor["shape"][1:]],
                "data": np.array(tensor["data"], dtype=object).reshape(-1).tolist() * times,
            }
            for tensor in self.inputs
        ]


def example(tensor: dict[str, Any]) -> dict[str, Any]:
    """An input as the metadata describe it, with one where the size is free."""
    shape = [1 if size == -1 else size for size in tensor["shape"]]
    categories = tensor.get("parameters", {}).get("categories", ["1"])
    value = {"BOOL": True, "BYTES": categories[0]}.get(tensor["datatype"], 1)
    kept = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
    return {**kept, "data": [value] * prod(shape)}


def as_bytes(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
    return np.array(values, DTYPES[datatype]).tobytes()


def output_arrays(response: httpx.Response) -> dict[str, np.ndarray]:
    """The outputs of an answer, whether in JSON or behind it; fails where they are not as the protocol says."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER, len(response.content)))
    document, raw = json.loads(response.content[:length]), response.content[length:]
    found = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        assert (size is None) == ("data" in output)
        if size is None:
            values = np.array(output["data"], dtype=object).reshape(-1)
        else:
            values, raw = np.frombuffer(raw[:size], DTYPES[output["datatype"]]), raw[size:]
        assert values.size == prod(output["shape"])
        found[output["name"]] = values.reshape(output["shape"])
    assert raw == b""
    return found


def assert_refused(response: httpx.Response) -> None:
    """An error as the protocol words it: a status of a client's error ("typically 400"), and `{"error": "..."}`."""
    assert 400 <= response.status_code < 500, response.text
    assert isinstance(response.json().get("error"), str), response.text
    assert response.json()["error"]


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        other = theirs[name]
        assert array.shape == other.shape
        if all(isinstance(value, str) for value in other.reshape(-1).tolist()):
            assert array.tolist() == other.tolist()
        else:
            np.testing.assert_allclose(array.astype(float), other.astype(float), rtol=1e-5, atol=1e-6)
