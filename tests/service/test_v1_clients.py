"""kserve's client over V1, as it is, at a real server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from clients import what_a_client_finds
from support import PATIENT, Server


@pytest.fixture(scope="module")
def kserve(server: Server) -> dict[str, Any]:
    """What kserve's client found."""
    return what_a_client_finds("kserve_v1.py", str(server.client.base_url).rstrip("/"), json.dumps(PATIENT))


def test_kserve_predicts_over_v1(kserve: dict[str, Any], server: Server) -> None:
    native = server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]}).json()
    value = native["predictions"][0]["value"]
    images = (np.arange(2 * 64).reshape(2, 8, 8) % 17).tolist()
    labelled = server.client.post("/predict", json={"model": "digits", "inputs": images}).json()["predictions"]

    assert (kserve["live"], kserve["model_ready"]) == (True, True)
    assert kserve["rows"].keys() == kserve["inputs"].keys() == {"predictions"}
    assert np.float32(kserve["rows"]["predictions"]).tolist() == [[np.float32(value)]]
    assert np.float32(kserve["inputs"]["predictions"]).tolist() == [[np.float32(value)]] * 2
    probabilities = [list(prediction["probabilities"].values()) for prediction in labelled]
    np.testing.assert_array_equal(np.float32(kserve["images"]["predictions"]), np.float32(probabilities))


def test_kserve_explains_over_v1(kserve: dict[str, Any], server: Server) -> None:
    explained = kserve["explained"]
    (target,) = explained["explanations"][0]["targets"]

    assert explained["predictions"] == kserve["rows"]["predictions"]
    assert [share["feature"] for share in target["attributions"]][:3] == ["age", "sex", "bmi"]
    total = target["base_value"] + sum(share["attribution"] for share in target["attributions"])
    assert total == pytest.approx(target["value"], rel=1e-4)
    assert explained["receipt"]["method"] == "kernel"
    assert server.client.get(f"/explanations/{explained['id']}").status_code == 200


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("unknown", 404, "nobody"),
        ("unknown_ready", 404, "nobody"),
        ("wrong", 400, "expected"),
        ("explain_wrong", 400, "magic"),
    ],
)
def test_kserve_raises_what_the_server_says(kserve: dict[str, Any], what: str, status: int, words: str) -> None:
    code, error = kserve[what]

    assert code == status
    assert words in error
