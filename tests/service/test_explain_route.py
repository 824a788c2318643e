"""`POST /explain`, over HTTP."""

from __future__ import annotations

import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from support import COMPUTE, EIGHT, PATIENT, Server, child_processes, cpu_ticks, wait_for

from models.artifact import BACKGROUND, KERAS, Artifact


def explain(server: Server, **body: Any) -> dict[str, Any]:
    response = server.client.post("/explain", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    receipt = {name: value for name, value in document["receipt"].items() if name != "duration_ms"}
    return {"explanations": document["explanations"], "receipt": receipt}


def test_base_value_and_attributions_add_up_to_the_prediction(server: Server) -> None:
    document = explain(server, model="diabetes", inputs=[PATIENT])

    (row,) = document["explanations"]
    (target,) = row["targets"]
    shares = [share["attribution"] for share in target["attributions"]]
    assert "exact" == row["stop_reason"] == document["receipt"]["method"]
    assert target["base_value"] + sum(shares) == pytest.approx(row["prediction"]["value"], abs=1e-3)
    assert abs(target["efficiency_residual"]) <= 1e-5 * abs(target["value"] - target["base_value"])
    assert {0.0} == {share["standard_error"] for share in target["attributions"]}
    assert [share["value"] for share in target["attributions"]] == PATIENT


def test_the_receipt_names_what_the_explanation_rests_on(server: Server, diabetes_artifact: Artifact) -> None:
    receipt = explain(server, model="diabetes", inputs=[PATIENT], seed=3)["receipt"]

    assert diabetes_artifact.hashes[KERAS] == receipt["model_sha256"]
    assert diabetes_artifact.hashes[BACKGROUND] == receipt["background_sha256"]
    assert tuple(receipt[name] for name in ("background_rows", "seed", "engine", "estimand")) == (
        100,
        3,
        "onnxruntime",
        "shapley",
    )


def test_an_image_gets_a_heatmap_with_errors_that_meet_the_tolerance(server: Server) -> None:
    document = explain(server, model="digits", inputs=[EIGHT], tolerance=0.02, deadline_ms=60_000)

    (row,) = document["explanations"]
    (target,) = row["targets"]
    heatmap = np.array(target["heatmap"]["attributions"])
    scale = abs(target["value"] - target["base_value"])
    assert heatmap.shape == (8, 8)
    assert row["stop_reason"] == "tolerance"
    assert document["receipt"]["method"] == "expected-gradients"
    assert heatmap.sum() == pytest.approx(target["value"] - target["base_value"], abs=0.02 * max(scale, 0.5))
    assert 0 < target["max_standard_error"] < 0.02


def test_the_same_request_gives_the_same_bits_alone_and_under_load(server: Server) -> None:
    body = {"model": "digits", "inputs": [EIGHT], "budget": 1600, "tolerance": 1e-6, "deadline_ms": 60_000}
    alone = without_times(explain(server, **body))

    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda _: without_times(explain(server, **body)), range(6)))

    assert all(alone == document for document in together)


def test_a_row_s_explanation_does_not_depend_on_the_other_rows(server: Server) -> None:
    other = [line[::-1] for line in EIGHT]
    body = {"model": "digits", "budget": 800, "tolerance": 1e-6, "deadline_ms": 60_000, "target": "8"}

    together = explain(server, inputs=[other, EIGHT], **body)["explanations"]
    alone = explain(server, inputs=[EIGHT], **body)["explanations"]

    assert alone[0]["targets"] == together[1]["targets"]


def test_all_targets_of_two_labels_mirror_each_other(server: Server, breast_cancer_artifact: Artifact) -> None:
    row = breast_cancer_artifact.background[0][0].astype(float).tolist()

    targets = explain(server, model="breast-cancer", inputs=[row], target="all", output="logit")["explanations"][0][
        "targets"
    ]

    assert [target["target"] for target in targets] == ["malignant", "benign"]
    malignant, benign = ([s["attribution"] for s in target["attributions"]] for target in targets)
    np.testing.assert_allclose(malignant, [-value for value in benign], atol=1e-5)


def test_kernel_agrees_with_exact_within_its_own_errors(server: Server) -> None:
    body = {"model": "diabetes", "inputs": [PATIENT], "deadline_ms": 60_000}

    (exact,) = explain(server, method="exact", **body)["explanations"][0]["targets"]
    sampled = explain(server, method="kernel", budget=60 * 200, tolerance=1e-9, **body)

    (row,) = sampled["explanations"]
    (target,) = row["targets"]
    true, shares, errors = (
        np.array([share[name] for share in shown["attributions"]])
        for shown, name in ((exact, "attribution"), (target, "attribution"), (target, "standard_error"))
    )
    assert ("budget", 60 * 200) == (row["stop_reason"], row["evaluations"])
    assert (errors > 0).all()
    assert target["max_standard_error"] == errors.max()
    # 60 pairs less 9 unknowns leave errors that go by Student's t; 4 of them is p < 0.001 for all ten together.
    assert (np.abs(shares - true) <= 4 * errors).all()
    assert abs(target["efficiency_residual"]) <= 1e-5 * abs(target["value"] - target["base_value"])


def test_kernel_over_every_coalition_is_exact(server: Server) -> None:
    body = {"model": "diabetes", "inputs": [PATIENT], "deadline_ms": 60_000}

    exact, whole = (
        explain(server, method=method, tolerance=1e-9, **body)["explanations"][0] for method in ("exact", "kernel")
    )

    shares = [[share["attribution"] for share in row["targets"][0]["attributions"]] for row in (exact, whole)]
    assert "exact" == whole["stop_reason"]
    assert 0.0 == whole["targets"][0]["max_standard_error"]
    np.testing.assert_allclose(shares[0], shares[1], rtol=1e-6)


def test_the_receipt_of_kernel_names_the_engine_that_evaluated_it(server: Server) -> None:
    onnx, keras = (
        explain(server, model=model, inputs=[PATIENT], method="kernel", deadline_ms=60_000)["receipt"]
        for model in ("diabetes", "keras-only")
    )

    asked = ("method", "estimand", "engine", "slice_rows")
    assert ("kernel", "shapley", "onnxruntime", 4096) == tuple(onnx[name] for name in asked)
    assert ("kernel", "shapley", "tensorflow", 4096) == tuple(keras[name] for name in asked)


def test_the_receipt_of_a_gradient_method_names_the_engine_that_took_the_gradients(server: Server) -> None:
    onnx, keras = (
        explain(server, model=model, inputs=[PATIENT], method="expected-gradients", budget=2000)["receipt"]
        for model in ("diabetes", "keras-only")
    )

    asked = ("engine", "device", "slice_rows")
    assert ("onnxruntime", "cpu", 1024) == tuple(onnx[name] for name in asked)
    assert ("tensorflow", "cpu", 1024) == tuple(keras[name] for name in asked)


def test_auto_takes_kernel_where_coalitions_are_too_many_and_rows_are_cheap(
    server: Server, breast_cancer_artifact: Artifact
) -> None:
    row = breast_cancer_artifact.background[0][0].astype(float).tolist()

    document = explain(server, model="breast-cancer", inputs=[row], deadline_ms=60_000, tolerance=0.02)

    assert "kernel" == document["receipt"]["method"]
    assert "tolerance" == document["explanations"][0]["stop_reason"]


def test_errors_are_null_where_too_little_was_sampled_to_state_them(
    server: Server, breast_cancer_artifact: Artifact
) -> None:
    rows, _ = breast_cancer_artifact.background
    body = {"model": "breast-cancer", "inputs": [rows[0].astype(float).tolist()], "method": "kernel"}
    body |= {"budget": 2 * 30 * 2 * len(rows)}

    (row,) = explain(server, **body)["explanations"]
    strict = server.client.post("/explain", json={**body, "strict": True})
    (image,) = explain(server, model="digits", inputs=[EIGHT], method="kernel", budget=140 * 200)["explanations"]

    (target,) = row["targets"]
    assert "budget" == row["stop_reason"]
    assert [None] * 30 == [share["standard_error"] for share in target["attributions"]]
    assert target["max_standard_error"] is None
    assert image["targets"][0]["heatmap"]["standard_errors"] is None
    assert (422, "/problems/tolerance-not-reached") == (strict.status_code, strict.json()["type"])
    assert "too few evaluations to state an error" in strict.json()["detail"]


def test_kernel_refuses_a_budget_that_poses_no_regression(server: Server) -> None:
    body = {"model": "diabetes", "inputs": [PATIENT], "method": "kernel", "budget": 3999}

    response = server.client.post("/explain", json=body)

    assert (422, "/problems/budget-too-small") == (response.status_code, response.json()["type"])
    assert "at least 4000 evaluations" in response.json()["detail"]


def test_top_k_keeps_the_largest_and_sums_the_rest(server: Server) -> None:
    everything = explain(server, model="diabetes", inputs=[PATIENT])["explanations"][0]["targets"][0]

    kept = explain(server, model="diabetes", inputs=[PATIENT], top_k=3)["explanations"][0]["targets"][0]

    ranked = sorted(everything["attributions"], key=lambda share: -abs(share["attribution"]))
    assert ranked[:3] == kept["attributions"]
    assert sum(share["attribution"] for share in ranked[3:]) == pytest.approx(kept["omitted"])


def test_a_budget_is_kept_and_strict_refuses_what_it_cannot_reach(server: Server) -> None:
    body = {"model": "digits", "inputs": [EIGHT], "budget": 90, "tolerance": 1e-6}

    loose = explain(server, **body)["explanations"][0]
    strict = server.client.post("/explain", json={**body, "strict": True})

    assert loose["stop_reason"] == "budget"
    assert loose["evaluations"] <= 90
    assert (strict.status_code, strict.json()["type"]) == (422, "/problems/tolerance-not-reached")


def test_a_deadline_ends_the_run_with_larger_errors(server: Server) -> None:
    row = explain(server, model="digits", inputs=[EIGHT], tolerance=1e-9, deadline_ms=50)["explanations"][0]

    assert row["stop_reason"] == "deadline"


@pytest.mark.parametrize(("model", "row"), [("digits", EIGHT), ("diabetes", PATIENT)])
def test_a_picture_is_a_png_of_the_asked_width_with_its_id(server: Server, model: str, row: Any) -> None:
    response = server.client.post(
        "/explain?width=640&theme=dark", json={"model": model, "inputs": [row]}, headers={"Accept": "image/png"}
    )

    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(response.content)).width == 640
    assert len(response.headers["x-explanation-id"]) == 26


@pytest.mark.parametrize(("model", "row"), [("digits", EIGHT), ("diabetes", PATIENT)])
def test_a_picture_is_an_svg_where_that_is_asked(server: Server, model: str, row: Any) -> None:
    body = {"model": model, "inputs": [row], "budget": 102_400, "tolerance": 0.5, "deadline_ms": 60_000}

    light, dark, again = (
        server.client.post(
            f"/explain?width=640&theme={theme}", json=body, headers={"Accept": "image/svg+xml,image/*;q=0.8"}
        )
        for theme in ("light", "dark", "light")
    )

    root = ElementTree.fromstring(light.content)
    assert (200, "image/svg+xml") == (light.status_code, light.headers["content-type"])
    assert "640" == root.get("width")
    assert f"{model} v1" in root.findtext("{http://www.w3.org/2000/svg}title", "")
    assert 26 == len(light.headers["x-explanation-id"])
    assert light.content == again.content != dark.content


def test_a_picture_needs_one_row_and_one_target_and_a_kind_that_is_offered(server: Server) -> None:
    two_rows = {"model": "diabetes", "inputs": [PATIENT, PATIENT]}
    all_targets = {"model": "digits", "inputs": [EIGHT], "target": "all", "budget": 80}

    statuses = [
        server.client.post("/explain", json=body, headers={"Accept": accept}).status_code
        for body, accept in ((two_rows, "image/png"), (all_targets, "image/png"), (two_rows, "image/webp"))
    ]

    assert statuses == [422, 422, 406]


def test_a_version_without_onnx_is_explained_the_same(server: Server) -> None:
    onnx, keras = (
        explain(server, model=model, inputs=[PATIENT], deadline_ms=60_000, method="exact")
        for model in ("diabetes", "keras-only")
    )

    assert (onnx["receipt"]["engine"], keras["receipt"]["engine"]) == ("onnxruntime", "tensorflow")
    shares = [[s["attribution"] for s in d["explanations"][0]["targets"][0]["attributions"]] for d in (onnx, keras)]
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-3)


def test_an_explanation_outlives_the_death_of_the_compute_process(server: Server) -> None:
    body = {"model": "digits", "inputs": [EIGHT], "tolerance": 1e-9, "deadline_ms": 3000}
    (compute,) = child_processes(server.process.pid, COMPUTE)
    idle = cpu_ticks(compute)

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(server.client.post, "/explain", json=body)
        wait_for(lambda: cpu_ticks(compute) > idle + 20)
        assert not answer.done()
        os.kill(compute, signal.SIGKILL)
        response = answer.result()

    assert response.status_code == 200, response.text
    assert [compute] != child_processes(server.process.pid, COMPUTE)
    assert "ended with status -9" in server.log
