"""`PUT /models/{m}/traffic`: requests that name no version are split between aliases, sticky by key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from support import PATIENT, Server, install

from models.artifact import Artifact
from vitrine import Client

MODEL = "split"
KEYS = [f"patient-{i}" for i in range(60)]


@pytest.fixture(scope="module")
def split(server: Server, diabetes_artifact: Artifact) -> Server:
    """Version 1 of `split` is its champion, version 2 its challenger, and half of the traffic goes to each."""
    for i in (1, 2):
        install(server.settings, diabetes_artifact, MODEL, f"JOB-split-{i}")
    for alias, version in (("champion", 1), ("challenger", 2)):
        server.client.put(f"/models/{MODEL}/aliases/{alias}", json={"version": version}).raise_for_status()
    put(server, {"champion": 50, "challenger": 50})
    return server


def put(server: Server, shares: dict[str, int]) -> dict[str, Any]:
    answer = server.client.put(f"/models/{MODEL}/traffic", json=shares)
    assert answer.status_code == 200, answer.text
    return answer.json()


def version_for(server: Server, key: str | None, route: str = "/predict", **body: Any) -> int:
    headers = {"X-Traffic-Key": key} if key else {}
    answer = server.client.post(route, json={"model": MODEL, "inputs": [PATIENT], **body}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["version"]


def test_requests_without_a_version_are_split_and_a_key_stays_with_its_version(split: Server) -> None:
    first = {key: version_for(split, key) for key in KEYS}
    again = {key: version_for(split, key) for key in KEYS}

    assert first == again
    assert set(first.values()) == {1, 2}


def test_explanation_goes_where_the_prediction_of_its_key_went(split: Server) -> None:
    predicted = [version_for(split, key) for key in KEYS[:8]]

    explained = [version_for(split, key, "/explain", method="exact") for key in KEYS[:8]]

    assert predicted == explained


def test_requests_without_a_key_go_by_chance(split: Server) -> None:
    served = Counter(version_for(split, None) for _ in range(60))

    assert set(served) == {1, 2}


def test_request_that_names_a_version_gets_it(split: Server) -> None:
    named = {(version, version_for(split, key, version=version)) for key in KEYS[:10] for version in ("champion", 2)}

    assert named == {("champion", 1), (2, 2)}


def test_split_is_shown_and_ended(split: Server) -> None:
    shown = split.client.get(f"/models/{MODEL}").json()["traffic"]
    with Client(str(split.client.base_url)) as client:
        ended = client.split_traffic(MODEL, {"champion": 100})
    served = {version_for(split, key) for key in KEYS}
    put(split, {"champion": 50, "challenger": 50})

    assert shown == {"challenger": 50, "champion": 50}
    assert ended == {"model": MODEL, "traffic": {}}
    assert served == {1}


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        pytest.param({"champion": 90}, "sum to 100", id="too little"),
        pytest.param({"champion": 90, "challenger": 20}, "sum to 100", id="too much"),
        pytest.param({"champion": 110, "challenger": -10}, "champion", id="negative"),
        pytest.param({"champion": "90", "challenger": 10}, "champion", id="text"),
        pytest.param({"champion": 99.5, "challenger": 0.5}, "champion", id="fractions"),
        pytest.param({}, "#", id="nothing"),
        pytest.param([90, 10], "#", id="a list"),
    ],
)
def test_split_that_cannot_be_is_422(split: Server, shares: Any, said: str) -> None:
    refused = split.client.put(f"/models/{MODEL}/traffic", json=shares)

    assert refused.status_code == 422, refused.text
    assert said in refused.text


@pytest.mark.parametrize(("model", "alias"), [(MODEL, "canary"), ("no-such-model", "champion")])
def test_split_between_what_there_is_not_is_404(split: Server, model: str, alias: str) -> None:
    refused = split.client.put(f"/models/{model}/traffic", json={alias: 100})

    assert refused.status_code == 404, refused.text
    assert refused.json()["available"]
