"""The model repository, configuration and statistics extensions of V2, and our own: explain."""

from __future__ import annotations

import numpy as np
import pytest
from protocol import Target, assert_refused, output_arrays

STATES = ("UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING")


def test_the_repository_lists_models_with_their_states(target: Target) -> None:
    target.needs("model_repository")

    every = target.client.post("/v2/repository/index").json()
    ready = target.client.post("/v2/repository/index", json={"ready": True}).json()

    assert target.model in {entry["name"] for entry in every}
    assert {entry["state"] for entry in every} <= set(STATES)
    assert {entry["state"] for entry in ready} == {"READY"}


def test_a_model_is_loaded_and_an_unknown_one_is_not(target: Target) -> None:
    target.needs("model_repository")

    assert target.client.post(f"/v2/repository/models/{target.model}/load").status_code == 200
    assert target.client.get(f"{target.path}/ready").status_code == 200
    for action in ("load", "unload"):
        assert_refused(target.client.post(f"/v2/repository/models/there-is-no-such-model/{action}"))


def test_the_configuration_has_the_tensors_of_the_metadata(target: Target) -> None:
    target.needs("model_configuration")

    configuration = target.client.get(f"{target.path}/config").json()

    assert configuration["name"] == target.model
    for configured, described in (("input", "inputs"), ("output", "outputs")):
        for tensor, said in zip(configuration[configured], target.metadata[described], strict=True):
            assert tensor["name"] == said["name"]
            assert tensor["data_type"] == "TYPE_" + said["datatype"].replace("BYTES", "STRING")
            rows = [-1] if configuration["max_batch_size"] else []
            assert [*rows, *tensor["dims"]] == said["shape"]
    assert_refused(target.client.get("/v2/models/there-is-no-such-model/config"))


def test_the_statistics_count_rows_requests_and_time(target: Target) -> None:
    target.needs("statistics")

    def of_model() -> dict[str, int]:
        (one, *_) = target.client.get(f"{target.path}/stats").json()["model_stats"]
        success = one["inference_stats"]["success"]
        return {"rows": one["inference_count"], "requests": success["count"], "ns": success["ns"]}

    before = of_model()
    target.infer().raise_for_status()
    after = of_model()

    assert after["rows"] - before["rows"] == 1
    assert after["requests"] - before["requests"] == 1
    assert after["ns"] > before["ns"]
    listed = target.client.get("/v2/models/stats").json()["model_stats"]
    assert target.model in {one["name"] for one in listed}


@pytest.mark.parametrize("binary", [False, True])
def test_attributions_add_up_to_the_value(target: Target, binary: bool) -> None:
    target.needs("explain")
    body = {"inputs": target.inputs, "id": "7", "parameters": {"seed": 1, "binary_data_output": binary}}
    names = ("attributions", "standard_errors", "base_values", "values", "efficiency_residuals")
    body["outputs"] = [{"name": name} for name in names]

    answer = target.client.post(f"{target.path}/explain", json=body)
    found = {name: array.astype(float) for name, array in output_arrays(answer).items()}

    sums = found["attributions"].reshape(*found["values"].shape, -1).sum(axis=2)
    expected = found["values"] - found["base_values"] + found["efficiency_residuals"]
    np.testing.assert_allclose(sums, expected, atol=1e-6 * max(1, np.abs(found["values"]).max()))
    assert found["standard_errors"].shape == found["attributions"].shape


def test_an_explanation_that_cannot_be_is_refused(target: Target) -> None:
    target.needs("explain")

    for parameters in ({"method": "there-is-no-such-method"}, {"tolerance": "x"}, {"there-is-none": 1}):
        body = {"inputs": target.inputs, "parameters": parameters}
        assert_refused(target.client.post(f"{target.path}/explain", json=body))
    body = {"inputs": target.inputs, "outputs": [{"name": "there-is-no-such-output"}]}
    assert_refused(target.client.post(f"{target.path}/explain", json=body))
