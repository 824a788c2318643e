"""OpenVINO as an engine, in an environment of its own, which the tests make: of the extra, as users install it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients import ROOT, environment
from support import Server, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from models.differences import TOLERANCE
from models.rows import decode_rows
from service.settings import Settings


@pytest.fixture(scope="module")
def python() -> Path:
    return environment("openvino") / "bin/python"


@pytest.fixture(scope="module")
def found(python: Path, digits_artifact: Artifact) -> dict[str, Any]:
    run = subprocess.run(
        [python, ROOT / "tests/engine_scripts/openvino_choices.py", digits_artifact.directory],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_it_says_what_keras_says_and_how_far_it_is_from_it(found: dict[str, Any], digits_artifact: Artifact) -> None:
    report = found["openvino"]

    assert ("openvino", "float32", 1) == (report["name"], report["precision"], report["threads"])
    assert set(digits_artifact.signature.outputs) == set(report["max_difference"])
    assert 0 < max(report["max_difference"].values()) <= TOLERANCE
    assert "VITRINE_ENGINE is openvino" in report["reason"]
    assert isinstance(report["batch_invariant"], bool)


def test_whichever_was_faster_predicts_and_the_reason_has_the_times(found: dict[str, Any]) -> None:
    assert ("openvino", "onnxruntime") == (found["faster"]["name"], found["slower"]["name"])
    assert found["faster"]["reason"].startswith("it is faster: 1 row took ")
    assert "OpenVINO is not faster: 1 row took " in found["slower"]["reason"]
    for report in (found["faster"], found["slower"]):
        assert {"onnxruntime", "openvino"} == set(report["measured_ms"])
        assert all({"1", "32"} == set(times) for times in report["measured_ms"].values())


def test_a_network_of_small_cost_stays_with_onnx_runtime_and_a_setting_keeps_any(found: dict[str, Any]) -> None:
    assert "onnxruntime" == found["onnxruntime"]["name"]
    assert "VITRINE_ENGINE is onnxruntime" in found["onnxruntime"]["reason"]
    # Whether digits is below the line, or OpenVINO slower or faster, is for the machine to say.
    assert any(words in found["auto"]["reason"] for words in ("is not tried", "is not faster", "it is faster"))


def test_bfloat16_is_taken_only_within_its_bound_and_its_error_is_stated(found: dict[str, Any]) -> None:
    taken, refused = found["bfloat16"], found["bfloat16 refused"]

    assert ("openvino", "openvino", "float32") == (taken["name"], refused["name"], refused["precision"])
    if taken["precision"] == "bfloat16":
        assert max(taken["max_difference"].values()) > 10 * max(refused["max_difference"].values())
        assert "OpenVINO in bfloat16 differs from Keras by" in refused["reason"]
    else:
        assert "OpenVINO has no bfloat16 on this processor" in refused["reason"]


def test_calls_beside_each_other_and_of_any_size_give_each_row_its_own_values(found: dict[str, Any]) -> None:
    assert found["concurrent calls are those alone"]
    assert {"1": 1, "3": 3, "64": 64, "65": 65, "200": 200} == found["rows by size"]
    assert max(found["largest difference by size"].values()) < 1e-5


def test_nothing_is_reported_to_its_makers(found: dict[str, Any]) -> None:
    """The package by which each import is reported, over the network, is there, and must not be imported."""
    assert found["telemetry"] is False


@pytest.fixture(scope="module")
def served(python: Path, digits_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port(), engine="openvino", refresh_ms=100)
    settings.prepare_home()
    point(settings, "digits", install(settings, digits_artifact, "digits", "JOB-digits"))
    with running(settings, "serve", python=python) as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        yield server


def test_a_server_predicts_by_it_and_says_so(served: Server, digits_artifact: Artifact) -> None:
    rows = digits_artifact.background[0][:40]
    inputs = rows[..., 0].tolist()

    answer = served.client.post("/predict", json={"model": "digits", "inputs": inputs}).json()
    card = served.client.get("/models/digits/versions/champion").json()
    (listed,) = served.client.get("/models").json()["models"]
    metadata = served.client.get("/v2/models/digits").json()

    expected = onnx_probabilities(digits_artifact, inputs)
    given = [list(each["probabilities"].values()) for each in answer["predictions"]]
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert ("openvino", "openvino_onnx") == (card["engine"]["name"], metadata["platform"])
    assert {"1": {"name": "openvino", "reason": card["engine"]["reason"]}} == listed["engines"]
    assert "openvino" == served.client.get("/health/ready").json()["models"]["digits"]["engine"]
    assert 'vitrine_engine_call_rows_count{engine="openvino"}' in served.client.get("/metrics").text


@pytest.mark.long
def test_explanations_stay_with_onnx_runtime_so_that_their_bits_depend_on_no_timing(served: Server) -> None:
    row = np.full((8, 8), 8.0).tolist()
    body = {"model": "digits", "inputs": [row], "method": "kernel", "options": {"segments": 6}, "deadline_ms": 20_000}

    answer = served.client.post("/explain", json=body).json()
    replay = served.client.post(f"/explanations/{answer['id']}/replay").json()

    assert ("onnxruntime", True) == (answer["receipt"]["engine"], replay["identical"])


def onnx_probabilities(artifact: Artifact, inputs: list[Any]) -> Any:
    from models.inference import open_session, session_outputs

    assert artifact.onnx_path is not None
    session = open_session(artifact.onnx_path.read_bytes(), threads=1)
    return session_outputs(session, artifact.signature)["probability"](decode_rows(inputs, artifact.signature))
