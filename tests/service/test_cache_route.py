"""The response cache of a real server, through every protocol, and the memory that its versions may take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from clients import what_a_client_finds
from support import PATIENT, Server, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from service.rpc.messages import SERVICE, message_class
from service.settings import Settings

MODEL = "diabetes"
OTHER = [value * 0.9 for value in PATIENT]


@pytest.fixture(scope="module")
def caching(
    tmp_path_factory: pytest.TempPathFactory, diabetes_artifact: Artifact, other_diabetes_artifact: Artifact
) -> Iterator[Server]:
    """Diabetes has versions 1 and 2; `spare` is loaded when it is asked for. There is memory for two versions."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        port=free_port(),
        grpc_port=free_port(),
        refresh_ms=100,
        record_predictions=1.0,
        cache_bytes=2**20,
        model_memory_bytes=40 * 2**20,
        preload=(MODEL,),
    )
    settings.prepare_home()
    for job, artifact in (("JOB-1", diabetes_artifact), ("JOB-2", other_diabetes_artifact)):
        install(settings, artifact, MODEL, job)
    point(settings, MODEL, 1)
    point(settings, "spare", install(settings, diabetes_artifact, "spare", "JOB-3"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        wait_for(lambda: server.client.get("/health/ready").json()["models"][MODEL]["explains"])
        yield server


def ask(server: Server, path: str, body: dict[str, Any], **headers: str) -> tuple[str | None, dict[str, Any]]:
    """What the answer says of the cache, and the answer."""
    response = server.client.post(path, json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.headers.get("cache-status"), response.json()


def move(server: Server, version: int) -> None:
    server.client.put(f"/models/{MODEL}/aliases/champion", json={"version": version}).raise_for_status()
    wait_for(lambda: ask(server, "/predict", {"model": MODEL, "inputs": [OTHER]})[1]["version"] == version)


def figures(server: Server) -> dict[str, float]:
    lines = server.client.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_before_anything_was_asked_only_what_is_named_is_loaded(caching: Server) -> None:
    loaded = {each["name"]: each["loaded"] for each in caching.client.get("/models").json()["models"]}

    assert {MODEL: [1], "spare": []} == loaded
    assert [MODEL] == list(caching.client.get("/health/ready").json()["models"])


def test_the_same_rows_are_answered_again_whatever_their_form_and_recorded_each_time(caching: Server) -> None:
    names = [
        feature["name"] for feature in caching.client.get(f"/models/{MODEL}/versions/1").json()["signature"]["features"]
    ]
    forms = [
        ("/predict", {"model": MODEL, "inputs": [PATIENT]}),
        ("/predict", {"model": MODEL, "inputs": [dict(zip(names, PATIENT, strict=True))], "version": 1}),
        (f"/v1/models/{MODEL}:predict", {"instances": [PATIENT]}),
        (
            f"/v2/models/{MODEL}/infer",
            {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 10], "data": PATIENT}]},
        ),
    ]
    before = figures(caching)

    said, answers = zip(*(ask(caching, *form) for form in forms), strict=True)

    assert ("vitrine; fwd=miss", *["vitrine; hit"] * 3) == said
    value = answers[0]["predictions"][0]["value"]
    assert value == answers[1]["predictions"][0]["value"]
    assert [value, value] == pytest.approx(
        [answers[2]["predictions"][0][0], answers[3]["outputs"][0]["data"][0]], abs=1e-4
    )
    assert answers[0]["id"] != answers[1]["id"]
    for answer in answers[:2]:
        found = wait_for(lambda answer=answer: succeeds(caching.client, f"/predictions/{answer['id']}"))
        assert [{"value": value}] == found.json()["predictions"]
    after = figures(caching)
    counted = {name: after[name] - before[name] for name in after if name.startswith("vitrine_cache_requests_total")}
    assert 3 == counted['vitrine_cache_requests_total{operation="predict",outcome="hit"}']
    assert 0 < after["vitrine_cache_bytes"] <= 2**20
    assert after["vitrine_cache_entries"] >= 1


def test_an_explanation_is_answered_again_with_an_id_and_a_record_of_its_own(caching: Server) -> None:
    body = {
        "model": MODEL,
        "inputs": [PATIENT],
        "method": "kernel",
        "budget": 20_000,
        "deadline_ms": 600_000,
        "seed": 7,
    }

    first_said, first = ask(caching, "/explain", body)
    second_said, second = ask(caching, "/explain", body)
    other_said, other = ask(caching, "/explain", body | {"seed": 8})

    assert ("vitrine; fwd=miss", "vitrine; hit", "vitrine; fwd=miss") == (first_said, second_said, other_said)
    assert first["explanations"] == second["explanations"]
    assert first["explanations"] != other["explanations"]
    assert first["id"] != second["id"]
    assert second == wait_for(lambda: succeeds(caching.client, f"/explanations/{second['id']}")).json()
    replayed = caching.client.post(f"/explanations/{second['id']}/replay")
    assert replayed.json()["identical"]
    assert "cache-status" not in replayed.headers  # it was computed


def test_a_moved_alias_is_not_answered_with_what_its_old_version_said(caching: Server) -> None:
    body = {"model": MODEL, "inputs": [PATIENT]}
    _, old = ask(caching, "/predict", body)

    move(caching, 2)
    said, new = ask(caching, "/predict", body)
    move(caching, 1)
    said_again, again = ask(caching, "/predict", body)

    assert ("vitrine; fwd=miss", 2) == (said, new["version"])
    assert old["predictions"] != new["predictions"]
    assert ("vitrine; hit", 1, old["predictions"]) == (said_again, again["version"], again["predictions"])


def test_the_challenger_gets_a_copy_of_hits_too(caching: Server) -> None:
    caching.client.put(f"/models/{MODEL}/aliases/challenger", json={"version": 2}).raise_for_status()

    def shadowed() -> int:
        return (caching.client.get(f"/models/{MODEL}").json()["shadow"] or {"rows": 0})["rows"]

    wait_for(lambda: caching.client.get(f"/models/{MODEL}").json()["shadow"])
    before = shadowed()
    said = [ask(caching, "/predict", {"model": MODEL, "inputs": [PATIENT]})[0] for _ in range(5)]

    assert "vitrine; hit" == said[-1]
    assert before + 5 == wait_for(lambda: shadowed() if shadowed() >= before + 5 else 0)


def test_errors_say_nothing_of_the_cache(caching: Server) -> None:
    response: httpx.Response = caching.client.post("/predict", json={"model": MODEL, "inputs": [["x"]]})

    assert response.status_code == 422
    assert "cache-status" not in response.headers


def test_the_listing_says_what_is_loaded_and_what_it_takes(caching: Server) -> None:
    ask(caching, "/predict", {"model": MODEL, "inputs": [PATIENT]})
    ask(caching, "/predict", {"model": "spare", "inputs": [PATIENT]})
    document = caching.client.get(f"/models/{MODEL}").json()

    memory = {each["version"]: each["memory"] for each in document["versions"]}
    assert ("loaded", True) == (memory[1]["state"], memory[1]["stays"])
    assert 2**20 < memory[1]["bytes"] <= document["memory_bytes"] < 40 * 2**20
    found = figures(caching)
    assert document["memory_bytes"] == pytest.approx(
        found[f'vitrine_versions_memory_bytes{{model="{MODEL}"}}'], rel=0.5
    )
    assert 40 * 2**20 == found["vitrine_versions_memory_limit_bytes"]
    assert found['vitrine_version_loads_total{model="spare"}'] >= 1
    assert found["vitrine_version_load_seconds_total"] > 0


def test_a_version_that_is_too_large_is_refused_with_the_cure(caching: Server, digits_artifact: Artifact) -> None:
    """A network on images takes 70 MiB once it is in both processes."""
    point(caching.settings, "digits", install(caching.settings, digits_artifact, "digits", "JOB-4"))
    body = {"model": "digits", "inputs": [[[0.0] * 8] * 8]}

    refused = wait_for(lambda: (r := caching.client.post("/predict", json=body)).status_code == 503 and r).json()

    assert "/problems/version-too-large" == refused["type"]
    assert "Raise VITRINE_MODEL_MEMORY_BYTES to" in refused["detail"]
    assert caching.client.get("/health/ready").status_code == 200
    assert "failed" == caching.client.get("/models/digits").json()["versions"][0]["memory"]["state"]


def test_calls_of_grpc_are_answered_from_it_and_told_so(caching: Server) -> None:
    row = [value * 1.1 for value in PATIENT]
    contents = {"fp32_contents": row}
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, len(row)], "contents": contents}
    request = message_class("ModelInferRequest")(model_name=MODEL, inputs=[tensor]).SerializeToString()

    with grpc.insecure_channel(f"127.0.0.1:{caching.settings.grpc_port}") as channel:
        ask_for = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        calls = [ask_for.with_call(request, timeout=60) for _ in range(2)]

    said = [dict(call.trailing_metadata())["cache-status"] for _, call in calls]
    answers = [message_class("ModelInferResponse").FromString(answer) for answer, _ in calls]
    assert ["vitrine; fwd=miss", "vitrine; hit"] == said
    assert answers[0].outputs == answers[1].outputs
    assert answers[0].id != answers[1].id


def test_tritonclient_reads_hits_and_misses_and_no_inference_for_a_hit(caching: Server) -> None:
    http, rpc = f"127.0.0.1:{caching.settings.port}", f"127.0.0.1:{caching.settings.grpc_port}"
    row, other = ([value * factor for value in PATIENT] for factor in (1.2, 1.3))

    found = what_a_client_finds("tritonclient_cache.py", http, rpc, MODEL, json.dumps(row), json.dumps(other))

    before, after = (found[when]["inference_stats"] for when in ("before", "after"))
    counted = {name: after[name]["count"] - before[name]["count"] for name in after}
    assert {"success": 3, "fail": 0, "queue": 3, "cache_hit": 1, "cache_miss": 2} == {
        name: counted[name] for name in ("success", "fail", "queue", "cache_hit", "cache_miss")
    }
    assert [2] * 5 == [
        *(counted[name] for name in ("compute_input", "compute_infer", "compute_output")),
        *(found["after"][name] - found["before"][name] for name in ("inference_count", "execution_count")),
    ]
    took = {name: after[name]["ns"] - before[name]["ns"] for name in after}
    assert 0 < took["cache_hit"] < took["success"]
    assert 0 < took["cache_miss"] < took["success"]
    assert 0 < took["compute_infer"] < took["success"]
    assert str(after["cache_hit"]["count"]) == found["over_grpc"]["inference_stats"]["cache_hit"]["count"]
    first, again, other_answer = found["answers"]
    assert first == again != other_answer
    assert [{"enable": True}] * 2 == [config["response_cache"] for config in found["config"]]


def test_of_identical_explanations_at_once_one_is_computed(caching: Server) -> None:
    body = {"model": MODEL, "inputs": [OTHER], "method": "kernel", "budget": 60_000, "deadline_ms": 600_000, "seed": 3}
    before = figures(caching)

    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(lambda _: ask(caching, "/explain", body), range(4)))

    after = figures(caching)
    name = 'vitrine_cache_requests_total{{operation="explain",outcome="{}"}}'
    assert (1, 3) == tuple(after[name.format(outcome)] - before[name.format(outcome)] for outcome in ("miss", "hit"))
    assert ["vitrine; fwd=miss", *["vitrine; hit"] * 3] == sorted(status or "" for status, _ in said)
    assert [said[0][1]["explanations"]] * 3 == [answer["explanations"] for _, answer in said[1:]]
    assert 4 == len({answer["id"] for _, answer in said})
