"""`POST /predict`, over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import EIGHT, PATIENT, Server

from models.artifact import Artifact
from models.datasets import load_builtin


def test_answers_what_keras_answers(server: Server, digits_artifact: Artifact) -> None:
    rows = load_builtin("digits").inputs[:20]
    expected = np.asarray(digits_artifact.load_keras()(rows, training=False))

    answer = server.client.post("/predict", json={"model": "digits", "inputs": rows[..., 0].tolist()}).json()

    received = [list(prediction["probabilities"].values()) for prediction in answer["predictions"]]
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert [str(label) for label in expected.argmax(axis=1)] == [p["label"] for p in answer["predictions"]]
    assert (answer["model"], answer["version"]) == ("digits", 1)


def test_a_version_without_onnx_answers_the_same_from_the_compute_process(server: Server) -> None:
    answers = [
        server.client.post("/predict", json={"model": model, "inputs": [PATIENT]}).json()["predictions"][0]["value"]
        for model in ("diabetes", "keras-only")
    ]

    assert answers[0] == pytest.approx(answers[1], rel=1e-5)
    assert server.client.get("/health/ready").json()["models"]["keras-only"]["engine"] == "tensorflow"


@pytest.mark.parametrize("version", ["champion", "1", 1])
def test_a_version_is_a_number_or_an_alias_and_the_answer_names_the_number(server: Server, version: str | int) -> None:
    answer = server.client.post("/predict", json={"model": "diabetes", "version": version, "inputs": [PATIENT]})

    assert answer.json()["version"] == 1


def test_rows_by_name_in_order_and_bare_images_mean_the_same(server: Server, diabetes_artifact: Artifact) -> None:
    named = dict(zip(diabetes_artifact.signature.feature_names, PATIENT, strict=True))

    columns = server.client.post(
        "/predict", json={"model": "diabetes", "inputs": [PATIENT, named, {**named, "progression": 1}]}
    ).json()["predictions"]
    images = server.client.post("/predict", json={"model": "digits", "inputs": [EIGHT, {"image": EIGHT}]}).json()

    assert columns[0] == columns[1] == columns[2]
    assert images["predictions"][0] == images["predictions"][1]


def test_a_row_s_answer_depends_neither_on_its_neighbours_nor_on_concurrent_requests(server: Server) -> None:
    rows = load_builtin("diabetes").inputs[:32].astype(float).tolist()
    together = server.client.post("/predict", json={"model": "diabetes", "inputs": rows}).json()["predictions"]

    with ThreadPoolExecutor(8) as threads:
        alone = list(
            threads.map(
                lambda row: server.client.post("/predict", json={"model": "diabetes", "inputs": [row]}).json()[
                    "predictions"
                ][0],
                rows,
            )
        )

    np.testing.assert_allclose([p["value"] for p in together], [p["value"] for p in alone], rtol=1e-6)
