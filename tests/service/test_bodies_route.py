"""Rows in other forms than JSON, over HTTP."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support import EIGHT, PATIENT, Server

from models.artifact import Artifact

CSV, NPY, ARROW = "text/csv", "application/x-npy", "application/vnd.apache.arrow.stream"
ROWS = [PATIENT, [value + 1 for value in PATIENT]]


def send(server: Server, path: str, body: bytes, kind: str, *, accept: str = "*/*", **fields: Any) -> httpx.Response:
    return server.client.post(path, content=body, params=fields, headers={"content-type": kind, "accept": accept})


@pytest.fixture(scope="module")
def bodies(diabetes_artifact: Artifact) -> dict[str, bytes]:
    """The same two patients in each form."""
    names = diabetes_artifact.signature.feature_names
    lines = [names, *ROWS]
    return {
        CSV: "\n".join(",".join(map(str, line)) for line in lines).encode(),
        NPY: _npy(np.array(ROWS)),
        ARROW: _arrow(pa.table({name: [row[i] for row in ROWS] for i, name in enumerate(names)})),
    }


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _arrow(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _picture(kind: str, scale: int = 1) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray((np.array(EIGHT) / 16 * 255).round().astype(np.uint8))
    image.resize((8 * scale, 8 * scale), Image.Resampling.NEAREST).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", [CSV, NPY, ARROW])
@pytest.mark.parametrize("model", ["diabetes", "keras-only"])
def test_predictions_are_those_of_the_same_rows_in_json(
    server: Server, bodies: dict[str, bytes], kind: str, model: str
) -> None:
    expected = server.client.post("/predict", json={"model": model, "inputs": ROWS}).json()

    answer = send(server, "/predict", bodies[kind], kind, model=model, version="champion").json()

    assert expected["predictions"] == answer["predictions"]
    assert 1 == answer["version"]


@pytest.mark.parametrize(("kind", "scale", "within"), [("PNG", 1, 0.01), ("PNG", 16, 0.2), ("JPEG", 16, 0.2)])
def test_an_image_is_a_row(server: Server, kind: str, scale: int, within: float) -> None:
    expected = server.client.post("/predict", json={"model": "digits", "inputs": [EIGHT]}).json()["predictions"][0]
    body = _picture(kind, scale)

    as_body = send(server, "/predict", body, f"image/{kind.lower()}", model="digits").json()["predictions"]
    encoded = {"b64": base64.b64encode(body).decode()}
    as_values = server.client.post("/predict", json={"model": "digits", "inputs": [encoded, {"image": encoded}]}).json()

    assert as_body * 2 == as_values["predictions"]
    assert expected["label"] == as_body[0]["label"]
    np.testing.assert_allclose(
        list(as_body[0]["probabilities"].values()), list(expected["probabilities"].values()), atol=within
    )


@pytest.mark.parametrize("kind", [CSV, NPY, ARROW])
def test_explanations_are_those_of_the_same_rows_in_json(server: Server, bodies: dict[str, bytes], kind: str) -> None:
    asked = {"model": "diabetes", "method": "exact", "top_k": 2}
    expected = server.client.post("/explain", json={**asked, "inputs": ROWS}).json()

    answer = send(server, "/explain", bodies[kind], kind, **asked).json()

    assert expected["explanations"] == answer["explanations"]


def test_a_picture_is_explained_by_a_picture(server: Server) -> None:
    answer = send(server, "/explain", _picture("PNG"), "image/png", accept="image/png", model="digits", width=300)

    assert "image/png" == answer.headers["content-type"]
    assert 300 == Image.open(io.BytesIO(answer.content)).width


def test_a_body_in_another_form_can_be_explained_later(server: Server, bodies: dict[str, bytes]) -> None:
    answer = server.client.post(
        "/explain",
        content=bodies[CSV],
        params={"model": "diabetes", "method": "exact"},
        headers={"content-type": CSV, "prefer": "respond-async"},
    )

    assert 202 == answer.status_code
    assert 2 == answer.json()["progress"]["total_rows"]


@pytest.mark.parametrize(
    ("body", "kind", "fields", "status", "words"),
    [
        (b"", CSV, {"model": "diabetes"}, 400, "empty"),
        (b"age\nx\n", CSV, {"model": "diabetes"}, 422, "#/inputs/header/sex"),
        (b"age\n1\n", CSV, {"model": "digits"}, 422, "image"),
        (b"age\n1\n", CSV, {"model": "nope"}, 404, "nope"),
        (b"age\n1\n", CSV, {}, 422, "query parameter model"),
        (b"age\n1\n", CSV, {"model": "diabetes", "q": 1}, 422, "query parameter q"),
        (b"age\n" + b"1\n" * 1025, CSV, {"model": "diabetes"}, 422, "at most 1024 rows"),
        (b"age\n1\n", "text/csv; header=absent", {"model": "diabetes"}, 415, "with a header"),
        (b"age\n1\n", "text/plain", {"model": "diabetes"}, 415, CSV),
        (b"", NPY, {"model": "diabetes"}, 400, "NPY"),
        (_npy(np.array([None])), NPY, {"model": "diabetes"}, 400, "numbers"),
        (_npy(np.zeros((1, 3))), NPY, {"model": "diabetes"}, 422, "(rows, 10)"),
        (_npy(np.zeros((1, 10)) * np.nan), NPY, {"model": "diabetes"}, 422, "#/inputs/0/9"),
        (_npy(np.zeros((1025, 10))), NPY, {"model": "diabetes"}, 422, "at most 1024 rows"),
        (b"", ARROW, {"model": "diabetes"}, 400, "Arrow"),
        (b"junk" * 100, ARROW, {"model": "diabetes"}, 400, "Arrow"),
        (_arrow(pa.table({"age": [1]})), ARROW, {"model": "diabetes"}, 422, "#/inputs/0/sex"),
        (_arrow(pa.table({"age": list(range(1025))})), ARROW, {"model": "diabetes"}, 422, "at most 1024 rows"),
        (_arrow(pa.table({"image": [[1.0]]})), ARROW, {"model": "digits"}, 422, "8 x 8 x 1"),
        (_arrow(pa.table({"image": ["x" * 64]})), ARROW, {"model": "digits"}, 422, "8 x 8 x 1"),
        (b"", "image/png", {"model": "digits"}, 422, "#/inputs/0"),
        (b"junk", "image/jpeg", {"model": "digits"}, 422, "#/inputs/0"),
        (_picture("PNG"), "image/png", {"model": "diabetes"}, 422, "an image"),
    ],
)
def test_what_cannot_be_used_is_named(
    server: Server, body: bytes, kind: str, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = send(server, "/predict", body, kind, **fields)

    assert status == answer.status_code, answer.text
    assert words in answer.text
    assert "application/problem+json" == answer.headers["content-type"]
