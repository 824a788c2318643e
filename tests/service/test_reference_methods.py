"""shap's own explainers through a running service: what they explain, what they cannot, and when their process dies."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from support import EIGHT, PATIENT, Server, child_processes, cpu_ticks, wait_for

REFERENCE = "service.serving.reference_process"
PATIENCE_SECONDS = 240
DIABETES = {"model": "diabetes", "inputs": [PATIENT], "deadline_ms": 60_000}
DIGITS = {"model": "digits", "inputs": [EIGHT], "deadline_ms": 60_000, "seed": 5}

RUNS = {
    "partition of columns": ({**DIABETES, "method": "shap.partition", "budget": 200_000}, "owen", 1e-4),
    "permutation of columns": ({**DIABETES, "method": "shap.permutation"}, "shapley", 1e-4),
    "deep of columns": ({**DIABETES, "method": "shap.deep"}, "saliency", 0.01),
    "gradient of images": (
        {**DIGITS, "method": "shap.gradient", "target": "8", "budget": 2_000},
        "aumann-shapley",
        1.0,
    ),
    "deep of images": ({**DIGITS, "method": "shap.deep", "target": "8"}, "saliency", 0.01),
}


def post(server: Server, body: dict[str, Any]) -> httpx.Response:
    # The process starts with the first request, and imports TensorFlow and shap.
    return server.client.post("/explain", json=body, timeout=PATIENCE_SECONDS)


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_each_explainer_answers_in_our_form_with_its_residual_and_can_be_replayed(server: Server, name: str) -> None:
    body, estimand, miss = RUNS[name]

    response = post(server, body)
    assert response.status_code == 200, response.text
    document = response.json()
    again = server.client.post(f"/explanations/{document['id']}/replay", timeout=PATIENCE_SECONDS).json()

    ((target,),) = (row["targets"] for row in document["explanations"])
    scale = abs(target["value"] - target["base_value"])
    assert (body["method"], estimand) == (document["receipt"]["method"], document["receipt"]["estimand"])
    assert abs(target["efficiency_residual"]) <= miss * scale
    assert (True, 0.0, []) == (again["identical"], again["max_difference"], again["differs_in"])


@pytest.mark.long
def test_owen_values_of_shap_are_ours_where_both_evaluate_all(server: Server) -> None:
    theirs, ours = (
        post(server, {**DIABETES, "method": method, "budget": 200_000}).json()["explanations"][0]["targets"][0]
        for method in ("shap.partition", "partition")
    )

    np.testing.assert_allclose(
        *([share["attribution"] for share in t["attributions"]] for t in (theirs, ours)), atol=0.01
    )


@pytest.mark.parametrize(
    ("body", "problem", "words"),
    [
        ({**DIABETES, "method": "shap.deep", "budget": 10}, "budget-too-small", "shap.deep"),
        ({**DIABETES, "method": "shap.partition", "budget": 10}, "budget-too-small", "shap.partition"),
        ({**DIGITS, "method": "shap.gradient", "budget": 9, "target": "all"}, "budget-too-small", "shap.gradient"),
        ({**DIABETES, "method": "shap.kernel", "options": {"baseline": "mean"}}, "invalid-request", "baseline"),
        ({**DIABETES, "method": "shap.tree"}, "method-does-not-fit", "there is no such method"),
        ({**DIGITS, "method": "shap.exact"}, "method-does-not-fit", "at most 16 players"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(
    server: Server, body: dict[str, Any], problem: str, words: str
) -> None:
    response = post(server, body)

    assert (422, f"/problems/{problem}") == (response.status_code, response.json()["type"]), response.text
    assert words in response.text


@pytest.mark.long
def test_a_process_that_dies_is_replaced_and_the_explanation_is_the_same(server: Server) -> None:
    body = {**DIGITS, "method": "shap.permutation", "budget": 50_000, "target": "8"}
    expected = post(server, body).json()
    (first,) = child_processes(server.process.pid, REFERENCE)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, server, body)
        busy = cpu_ticks(first)
        wait_for(lambda: cpu_ticks(first) > busy + 5)
        os.kill(first, signal.SIGKILL)
        # Predictions and our own explanations do not wait for it.
        beside = server.client.post("/explain", json={**DIABETES, "method": "exact"})
        document = answer.result(PATIENCE_SECONDS).json()

    assert 200 == beside.status_code
    assert expected["explanations"] == document["explanations"]
    assert [first] != child_processes(server.process.pid, REFERENCE)


def test_a_request_that_may_not_wait_is_given_up_and_the_next_is_answered(server: Server) -> None:
    """It would work for half an hour, and the next one waits behind it."""
    body = {**DIGITS, "method": "shap.permutation", "budget": 20_000_000, "target": "8"}

    late = server.client.post("/explain", json=body, headers={"X-Request-Timeout-Ms": "300"})
    following = post(server, {**DIABETES, "method": "shap.exact"})

    assert (504, 200) == (late.status_code, following.status_code)
