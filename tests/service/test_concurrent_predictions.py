"""Requests at the same time: each is answered as if it had been asked alone, whatever protocol the others speak."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn import datasets
from support import Server

CONNECTIONS = 48
N_REQUESTS = 240
LARGEST = 40
"""Rows of the largest requests: more than go into one call where calls are padded."""


@dataclass(frozen=True)
class Asked:
    """A request, and where in its answer the outputs are."""

    model: str
    path: str
    body: dict[str, Any]
    key: str


@pytest.fixture(scope="module")
def asked() -> list[Asked]:
    """Requests of every size and protocol for three models, in no order."""
    rng = np.random.default_rng(5)
    images = datasets.load_digits().images[..., np.newaxis]
    rows = {
        "diabetes": datasets.load_diabetes(scaled=False).data.astype(np.float32),
        "breast-cancer": datasets.load_breast_cancer().data.astype(np.float32),
        "digits": images.astype(np.float32),
    }
    requests = []
    for _ in range(N_REQUESTS):
        model = str(rng.choice(list(rows)))
        taken = rows[model][rng.choice(len(rows[model]), rng.choice([1, 1, 1, 2, 5, 12, LARGEST]), replace=False)]
        match rng.integers(4):
            case 0:
                requests.append(
                    Asked(model, f"/v1/models/{model}:predict", {"instances": taken.tolist()}, "predictions")
                )
            case 1:
                output = "logit" if model != "diabetes" and rng.random() < 0.5 else "output"
                requests.append(Asked(model, f"/v2/models/{model}/infer", tensors(model, taken, output), "outputs"))
            case _:
                body = {"model": model, "inputs": taken.tolist()}
                requests.append(Asked(model, "/predict", body, "predictions"))
    return requests


def tensors(model: str, rows: np.ndarray, output: str) -> dict[str, Any]:
    name = "image" if model == "digits" else "input"
    tensor = {"name": name, "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    return {"inputs": [tensor], "outputs": [{"name": output}]}


async def all_at_once(server: Server, asked: list[Asked]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=server.client.base_url, limits=limits, timeout=60) as client:
        return await asyncio.gather(
            *(
                client.post(each.path, json=each.body, headers={"X-Request-Id": f"request-{i}"})
                for i, each in enumerate(asked)
            )
        )


def test_each_of_many_requests_at_once_gets_the_answer_and_the_id_that_it_gets_alone(
    server: Server, asked: list[Asked]
) -> None:
    spread = {"digits": 1.0, "breast-cancer": 1.0, "diabetes": 300.0}

    together = asyncio.run(all_at_once(server, asked))

    for i, (each, answer) in enumerate(zip(asked, together, strict=True)):
        alone = server.client.post(each.path, json=each.body)
        assert f"request-{i}" == answer.headers["X-Request-Id"]
        assert alone.status_code == answer.status_code == 200, answer.text
        expected, received = numbers_in(alone.json()[each.key]), numbers_in(answer.json()[each.key])
        assert len(expected) == len(received)
        # Log-odds are unbounded: theirs is a bound on the relative error.
        scale = np.maximum(spread[each.model], np.abs(expected))
        assert (np.abs(expected - received) <= 1e-6 * scale).all(), (each.path, each.model)
    ids = [answer.json()["id"] for answer in together if "id" in answer.json()]
    assert len(ids) == len(set(ids))


def test_padded_calls_give_the_same_bits_alone_and_among_others(recording: Server, asked: list[Asked]) -> None:
    together = asyncio.run(all_at_once(recording, asked))

    for each, answer in zip(asked, together, strict=True):
        alone = recording.client.post(each.path, json=each.body)
        assert answer.status_code == 200, answer.text
        assert alone.json()[each.key] == answer.json()[each.key]
        if each.path == "/predict" and len(each.body["inputs"]) <= 5:
            one_by_one = [
                recording.client.post("/predict", json={**each.body, "inputs": [row]}).json()["predictions"][0]
                for row in each.body["inputs"]
            ]
            assert one_by_one == answer.json()["predictions"]


def numbers_in(outputs: Any) -> np.ndarray:
    """Every number of some JSON, in its order."""
    if isinstance(outputs, dict):
        return np.concatenate([numbers_in(value) for value in outputs.values()])
    if isinstance(outputs, list):
        return np.concatenate([numbers_in(value) for value in outputs]) if outputs else np.empty(0)
    return np.array([outputs] if isinstance(outputs, int | float) else [], np.float64)
