"""A version that ONNX cannot hold is served all the same: by TensorFlow, in the compute process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import PATIENT, Server, install

from models.artifact import Artifact
from models.rows import decode_rows

ROWS = [[value * (1 + 0.01 * i) for value in PATIENT] for i in range(70)]


@pytest.fixture(scope="module")
def erfinv(server: Server, erfinv_artifact: Artifact) -> str:
    version = install(server.settings, erfinv_artifact, "erfinv", "JOB-erfinv")
    server.client.put("/models/erfinv/aliases/champion", json={"version": version}).raise_for_status()
    return "erfinv"


@pytest.fixture(scope="module")
def expected(erfinv_artifact: Artifact) -> Any:
    from models.training import predict_raw

    return predict_raw(erfinv_artifact.load_keras(), decode_rows(ROWS, erfinv_artifact.signature))[:, 0]


def test_its_card_says_why_and_whether_its_values_depend_on_the_batch(server: Server, erfinv: str) -> None:
    card = server.client.get(f"/models/{erfinv}/versions/champion").json()

    assert "tensorflow" == card["export"]["engine"]
    assert card["export"]["reason"].startswith("the export failed")
    assert isinstance(card["batch_invariant"], bool)
    assert card["batch_invariant"] == card["export"]["batch_invariance"]["invariant"]


def test_readiness_names_its_engine(server: Server, erfinv: str) -> None:
    found = server.client.get("/health/ready").json()["models"][erfinv]

    assert {"champion": 1, "engine": "tensorflow", "explains": True} == found


@pytest.mark.parametrize("n_rows", [1, 5, 8, 9, 70])
def test_its_predictions_are_those_of_keras_however_many_rows(
    server: Server, erfinv: str, expected: Any, n_rows: int
) -> None:
    answer = server.client.post("/predict", json={"model": erfinv, "inputs": ROWS[:n_rows]}).json()

    values = [prediction["value"] for prediction in answer["predictions"]]
    np.testing.assert_allclose(values, expected[:n_rows], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", ["exact", "expected-gradients", "auto"])
def test_its_explanations_add_up(server: Server, erfinv: str, expected: Any, method: str) -> None:
    body = {"model": erfinv, "inputs": [PATIENT], "method": method, "deadline_ms": 10_000}

    answer = server.client.post("/explain", json=body).json()

    (target,) = answer["explanations"][0]["targets"]
    total = target["base_value"] + sum(part["attribution"] for part in target["attributions"])
    assert ("tensorflow", answer["version"]) == (answer["receipt"]["engine"], 1)
    assert pytest.approx(expected[0], rel=1e-5) == target["value"]
    assert pytest.approx(target["value"], abs=0.02 * abs(target["value"] - target["base_value"]) + 0.5) == total


def test_predictions_pass_an_explanation_that_is_at_work(server: Server, erfinv: str) -> None:
    """The explanation takes its whole deadline; predictions asked for meanwhile do not wait for its end."""
    long = {"model": erfinv, "inputs": [PATIENT], "method": "smooth-grad", "tolerance": 1e-9, "deadline_ms": 8000}
    with ThreadPoolExecutor(1) as threads:
        explaining = threads.submit(server.client.post, "/explain", json=long)
        answers = [server.client.post("/predict", json={"model": erfinv, "inputs": [PATIENT]}) for _ in range(20)]
        done_meanwhile = not explaining.done()
        explanation = explaining.result().json()

    assert {200} == {answer.status_code for answer in answers}
    assert done_meanwhile
    assert "deadline" == explanation["explanations"][0]["stop_reason"]
