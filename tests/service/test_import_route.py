"""A .keras file sent over HTTP: refused at once where it can be seen, else a job that ends in a version or in words."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support import IMPORT_LIMIT_BYTES, Server, wait_for

from models.datasets import load_builtin
from models.training import predict_raw
from vitrine import Client

pytestmark = pytest.mark.long

layers: Any = keras.layers
IRIS = {"dataset": {"builtin": "iris"}}


@pytest.fixture(scope="module")
def model() -> Any:
    return network(layers.Dense(3, activation="softmax"))


def test_imported_model_is_promoted_and_predicts_what_it_predicted(system: Server, model: Any) -> None:
    rows = load_builtin("iris").inputs[:20]
    # Once: a file says when it was saved.
    content = content_of(model)
    with Client(f"http://127.0.0.1:{system.settings.port}") as client:
        accepted = client.import_version("mine", io.BytesIO(content), IRIS, idempotency_key="mine")
        again = client.import_version("mine", io.BytesIO(content), IRIS, idempotency_key="mine")
        *_, job = client.follow(accepted["job"])
        wait_for(lambda: "mine" in system.client.get("/health/ready").json()["models"])
        answers = client.predict("mine", rows.tolist())
        card = client.card("mine")

    assert accepted["job"] == again["job"]
    assert ("succeeded", 1, True) == (job["status"], job["version"], job["promoted"])
    found = [[*answer["probabilities"].values()] for answer in answers]
    np.testing.assert_allclose(found, predict_raw(model, rows), atol=1e-5)
    assert card["evaluation"]["rows"] > 10
    assert 64 == len(card["imported"]["file_sha256"])
    assert card["imported"]["file_sha256"] + ".keras" in names(system)


def test_model_that_does_not_fit_fails_its_job_with_the_cure(system: Server) -> None:
    response = send(system, "unfit", content_of(network(layers.Dense(2, activation="softmax"))), IRIS)

    job = finished(system, response.json()["job"])

    assert ("failed", "The model cannot be imported") == (job["status"], job["error"]["title"])
    assert "expected one output of shape (3,) for 3 labels, received an output of shape (2,)" in job["error"]["detail"]


def test_folds_and_warnings_are_in_the_card_and_in_the_jobs_progress(system: Server) -> None:
    training = {"epochs": 2, "folds": 2, "early_stopping": None}
    architecture = {"type": "mlp", "layers": [4]}
    spec = {"model": "folds", **IRIS, "architecture": architecture, "training": training}

    job = finished(system, system.client.post("/train", json=spec).json()["job"])

    card = system.client.get("/models/folds/versions/1").json()
    assert [1, 2] == [fold["fold"] for fold in card["training"]["folds"]["per_fold"]]
    assert set(card["evaluation"]["metrics"]) == set(card["training"]["folds"]["mean"])
    assert (2, 2) == (job["progress"]["fold"], job["progress"]["folds"])
    assert 2 == len(card["training"]["epoch_seconds"]) == len(card["training"]["peak_bytes"])
    assert {"dense", "logit"} == set(card["training"]["layers"]["figures"])
    assert card["training"]["device"].startswith(("CPU", "GPU"))


def test_file_with_a_lambda_is_refused_at_once_and_not_kept(system: Server) -> None:
    before = names(system)

    response = send(system, "mine", content_of(network(layers.Lambda(lambda x: x[:, :3], name="code"))), IRIS)

    assert 422 == response.status_code
    problem = response.json()
    assert "/problems/unsafe-model-file" == problem["type"]
    assert "Lambda layer 'code' holds code" in problem["detail"]
    assert before == names(system)


@pytest.mark.parametrize(
    ("parts", "status", "words"),
    [
        ({"file": b"PK"}, 422, "no whole .keras file"),
        ({"file": None}, 422, "#/file: expected a file, received nothing"),
        ({"spec": None}, 422, "#/spec: expected a JSON object, received nothing"),
        ({"spec": "{"}, 400, "The part spec is not JSON"),
        ({"spec": "[]"}, 422, "#/spec: expected a JSON object"),
        ({"spec": "{}"}, 422, "#/dataset: expected either a dataset, or what is given"),
        ({"spec": '{"model": "other", "dataset": {"builtin": "iris"}}'}, 422, "#/model: expected nothing"),
        ({"spec": '{"dataset": {"builtin": "mnist"}}'}, 422, "#/dataset"),
        ({"spec": '{"dataset": {"builtin": "iris"}, "gates": {"min": {"r2": 1}}}'}, 422, "#/gates/min/r2"),
        ({"file": bytes(IMPORT_LIMIT_BYTES + 17 * 2**20)}, 413, "raise VITRINE_IMPORT_LIMIT_BYTES"),
    ],
    ids=str,
)
def test_form_that_cannot_be_used_is_refused_with_what_was_expected(
    system: Server, model: Any, parts: dict[str, Any], status: int, words: str
) -> None:
    form = {"file": content_of(model), "spec": json.dumps(IRIS), **parts}
    files = {name: (f"{name}.part", part) if name == "file" else (None, part) for name, part in form.items() if part}

    response = system.client.post("/models/mine/versions", files=files)

    assert status == response.status_code, response.text
    assert words in response.json()["detail"]


def test_body_that_is_no_form_is_refused(system: Server) -> None:
    response = system.client.post("/models/mine/versions", json=IRIS)

    assert 415 == response.status_code
    assert "multipart/form-data" in response.json()["detail"]


def network(last: Any) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    return keras.Model(inputs, last(layers.Dense(8, activation="tanh")(inputs)))


def content_of(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def send(system: Server, model: str, content: bytes, spec: dict[str, Any]) -> Any:
    files = {"file": ("model.keras", io.BytesIO(content)), "spec": (None, json.dumps(spec))}
    return system.client.post(f"/models/{model}/versions", files=files)


def finished(system: Server, job: str) -> dict[str, Any]:
    def document() -> dict[str, Any] | None:
        found = system.client.get(f"/train/{job}").json()
        return found if found["status"] in ("succeeded", "failed") else None

    return wait_for(document, seconds=240)


def names(system: Server) -> list[str]:
    folder = system.settings.imports_directory
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
