"""Every method through the service: explained, refused, replayed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import EIGHT, PATIENT, Server, child_processes

from explain.methods import METHODS

DIABETES = {"model": "diabetes", "inputs": [PATIENT], "deadline_ms": 60_000, "tolerance": 0.2}
DIGITS = {"model": "digits", "inputs": [EIGHT], "deadline_ms": 60_000, "tolerance": 0.5, "seed": 5}
SHAPLEY = ("exact", "kernel", "permutation", "partition")

RUNS = {
    "exact": {**DIABETES, "method": "exact", "options": {"interactions": True, "baseline": "mean"}},
    "exact over segments": {**DIGITS, "method": "exact", "options": {"segments": 6}},
    "kernel": {**DIABETES, "method": "kernel", "options": {"interactions": True}},
    "kernel over segments": {**DIGITS, "method": "kernel", "options": {"segments": 9, "baseline": "blur"}},
    "permutation": {**DIABETES, "method": "permutation", "tolerance": 0.01},
    "permutation over segments": {**DIGITS, "method": "permutation", "options": {"segments": 9}},
    "partition": {**DIABETES, "method": "partition"},
    "partition over segments": {**DIGITS, "method": "partition", "options": {"segments": 12}},
    "partition over pixels": {**DIGITS, "method": "partition", "budget": 60_000},
    "expected-gradients": {**DIABETES, "method": "expected-gradients", "budget": 2_000},
    "expected-gradients of all": {**DIGITS, "method": "expected-gradients", "target": "all", "budget": 20_000},
    "integrated-gradients": {**DIABETES, "method": "integrated-gradients"},
    "integrated-gradients of images": {**DIGITS, "method": "integrated-gradients", "options": {"baseline": "blur"}},
    "smooth-grad": {**DIABETES, "method": "smooth-grad", "options": {"noise": 0.2}},
    "smooth-grad of images": {**DIGITS, "method": "smooth-grad"},
    "grad-cam": {**DIGITS, "method": "grad-cam"},
    "grad-cam++": {**DIGITS, "method": "grad-cam++", "output": "logit"},
    "layer-cam": {**DIGITS, "method": "layer-cam"},
    "occlusion": {**DIABETES, "method": "occlusion"},
    "occlusion of images": {**DIGITS, "method": "occlusion", "options": {"window": 2, "stride": 1, "baseline": 0}},
    "rise": {**DIGITS, "method": "rise", "options": {"cells": [4, 4]}, "budget": 1_000},
}


def explain(server: Server, **body: Any) -> dict[str, Any]:
    # The process for shap's explainers starts with the first of them, and imports for many seconds.
    response = server.client.post("/explain", json=body, timeout=240)
    assert response.status_code == 200, response.text
    return response.json()


def refusal(server: Server, **body: Any) -> dict[str, Any]:
    response = server.client.post("/explain", json=body)
    assert response.status_code == 422, response.text
    return response.json()


def attributions(row: dict[str, Any]) -> np.ndarray:
    (target,) = row["targets"]
    if "heatmap" in target:
        return np.array(target["heatmap"]["attributions"])
    return np.array([share["attribution"] for share in target["attributions"]])


@pytest.mark.parametrize("name", RUNS)
def test_each_method_explains_and_its_replay_gives_the_same_bits(server: Server, name: str) -> None:
    body = RUNS[name]

    document = explain(server, **body)
    again = server.client.post(f"/explanations/{document['id']}/replay").json()

    method, receipt = METHODS[body["method"]], document["receipt"]
    assert (method.name, method.estimand) == (receipt["method"], receipt["estimand"])
    assert body.get("options", {}).items() <= receipt["options"].items()
    assert (True, 0.0, []) == (again["identical"], again["max_difference"], again["differs_in"])
    assert all(np.isfinite(t["efficiency_residual"]) for row in document["explanations"] for t in row["targets"])


def test_every_method_that_explains_what_the_server_holds_is_tried_here() -> None:
    tried = {body["method"] for body in RUNS.values()}

    assert {name for name, method in METHODS.items() if method.needs != "shap"} == tried


@pytest.mark.parametrize("method", SHAPLEY)
def test_shapley_and_owen_values_add_up(server: Server, method: str) -> None:
    (target,) = explain(server, **{**DIABETES, "method": method})["explanations"][0]["targets"]

    scale = abs(target["value"] - target["base_value"])
    assert abs(target["efficiency_residual"]) <= 1e-4 * scale


@pytest.mark.parametrize("method", ["shap.exact", "shap.kernel", "shap.permutation", "shap.gradient"])
def test_the_reference_explains_in_a_process_of_its_own(server: Server, method: str) -> None:
    body = {**DIABETES, "method": method, "seed": 2}

    ours = explain(server, **{**body, "method": "exact"})
    document = explain(server, **body)
    again = server.client.post(f"/explanations/{document['id']}/replay", timeout=240).json()

    theirs = attributions(document["explanations"][0])
    assert 1 == len(child_processes(server.process.pid, "service.serving.reference_process"))
    assert document["receipt"]["library_versions"]["shap"]
    assert again["identical"], again["differs_in"]
    np.testing.assert_allclose(theirs, attributions(ours["explanations"][0]), atol=5.0)


def test_what_shap_cannot_explain_is_refused(server: Server) -> None:
    problem = refusal(server, **{**DIGITS, "method": "shap.exact"})

    assert "/problems/method-does-not-fit" == problem["type"]
    assert "at most 16 players" in problem["detail"]


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "layer-cam", "rise"])
def test_a_method_for_images_is_refused_for_columns_naming_what_fits(server: Server, method: str) -> None:
    problem = refusal(server, **{**DIABETES, "method": method})

    assert "/problems/method-does-not-fit" == problem["type"]
    assert {"auto", *SHAPLEY, "expected-gradients", "occlusion"} <= set(problem["available"])
    assert method not in problem["available"]


@pytest.mark.parametrize(
    ("method", "options", "pointer", "expected"),
    [
        (
            "kernel",
            {"windows": 3},
            "#/options/windows",
            "one of the options of method 'kernel': interactions, baseline",
        ),
        ("auto", {"segments": 4}, "#/options/segments", "no options: method 'auto' has none"),
        ("kernel", {"segments": 4}, "#/options/segments", "interactions"),
        ("kernel", {"interactions": "yes"}, "#/options/interactions", "true or false"),
        ("exact", {"baseline": "blur"}, "#/options/baseline", "one of sample, mean, zero"),
        ("integrated-gradients", {"baseline": 3}, "#/options/baseline", "one of mean, zero"),
        ("smooth-grad", {"noise": -1}, "#/options/noise", "a number from 0 to 10"),
        ("occlusion", {"window": 2}, "#/options/window", "one of the options of method 'occlusion': baseline"),
    ],
)
def test_an_option_that_a_method_does_not_take_is_refused(
    server: Server, method: str, options: dict[str, Any], pointer: str, expected: str
) -> None:
    problem = refusal(server, **{**DIABETES, "method": method, "options": options})

    (fault,) = problem["errors"]
    assert pointer == fault["pointer"]
    assert expected in fault["expected"]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("grad-cam", {"layer": "nothing"}),
        ("kernel", {"segments": 65}),
        ("kernel", {"interactions": True}),
        ("occlusion", {"window": 9}),
        ("rise", {"cells": 0}),
    ],
)
def test_an_option_that_does_not_fit_an_image_is_refused(server: Server, method: str, options: dict[str, Any]) -> None:
    problem = refusal(server, **{**DIGITS, "method": method, "options": options})

    assert problem["detail"]


def test_a_layer_that_was_found_is_named_and_can_be_named(server: Server) -> None:
    found = explain(server, **{**DIGITS, "method": "grad-cam"})
    layer = found["receipt"]["options"]["layer"]

    named = explain(server, **{**DIGITS, "method": "grad-cam", "options": {"layer": layer}})

    assert found["explanations"] == named["explanations"]


def test_interactions_of_columns_name_two_features(server: Server) -> None:
    body = {**DIABETES, "method": "exact", "options": {"interactions": True}}

    (target,) = explain(server, **body)["explanations"][0]["targets"]

    assert 45 == len(target["interactions"])
    assert {"features", "interaction", "standard_error"} == set(target["interactions"][0])
    assert ["age", "sex"] == target["interactions"][0]["features"]
    assert {0.0} == {pair["standard_error"] for pair in target["interactions"]}


def test_a_segment_s_share_is_divided_over_its_pixels(server: Server) -> None:
    body = {**DIGITS, "method": "exact", "options": {"segments": 5}}

    (row,) = explain(server, **body)["explanations"]

    heatmap = row["targets"][0]["heatmap"]
    segments, shares = np.array(heatmap["segments"]), np.array(heatmap["attributions"])
    assert list(range(5)) == sorted(set(segments.reshape(-1).tolist()))
    assert all(len(set(shares[segments == segment].tolist())) == 1 for segment in range(5))
    (target,) = row["targets"]
    assert target["value"] - target["base_value"] == pytest.approx(shares.sum(), abs=1e-5)


@pytest.mark.parametrize("name", ["kernel over segments", "grad-cam", "smooth-grad", "occlusion of images"])
def test_each_kind_of_answer_is_drawn(server: Server, name: str) -> None:
    response = server.client.post("/explain?width=400", json=RUNS[name], headers={"Accept": "image/svg+xml"})

    assert (200, "image/svg+xml") == (response.status_code, response.headers["content-type"]), response.text[:300]


def test_a_budget_is_kept_and_strict_refuses_what_it_cannot_reach(server: Server) -> None:
    body = {**DIABETES, "method": "permutation", "budget": 4_500, "tolerance": 1e-9}

    (row,) = explain(server, **body)["explanations"]
    strict = refusal(server, **{**body, "strict": True})

    assert row["evaluations"] <= 4_500
    assert "/problems/tolerance-not-reached" == strict["type"]
