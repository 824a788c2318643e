"""Two servers on one home: what one is told, the other knows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from time import monotonic

import pytest
from support import PATIENT, Server, free_port, install, mostly_under, point, running, succeeds, wait_for

from models.artifact import Artifact
from service.settings import Settings

MODEL = "diabetes"


@pytest.fixture(scope="module")
def replicas(
    tmp_path_factory: pytest.TempPathFactory, diabetes_artifact: Artifact, other_diabetes_artifact: Artifact
) -> Iterator[list[Server]]:
    home = tmp_path_factory.mktemp("home")
    settings = [Settings(home=home, port=free_port()) for _ in range(2)]
    for job, artifact in (("JOB-1", diabetes_artifact), ("JOB-2", other_diabetes_artifact)):
        install(settings[0], artifact, MODEL, job)
    # Both are loaded everywhere, so that a move need not wait for more than being seen.
    point(settings[0], MODEL, 1)
    point(settings[0], MODEL, 2, alias="next")
    with running(settings[0], "serve") as first, running(settings[1], "serve") as second:
        for server in (first, second):
            wait_for(lambda server=server: explains_both(server))
        yield [first, second]


def explains_both(server: Server) -> bool:
    """Whether both versions are loaded, in the compute process too: an explanation with gradients waits for it."""
    if not succeeds(server.client, "/health/ready"):
        return False
    bodies = [
        {"model": MODEL, "version": version, "inputs": [PATIENT], "method": "expected-gradients"} for version in (1, 2)
    ]
    return all(server.client.post("/explain", json=body).status_code == 200 for body in bodies)


def test_an_alias_that_one_replica_moves_is_moved_for_the_other_within_two_seconds(replicas: list[Server]) -> None:
    first, second = replicas
    versions = cycle((2, 1))

    def move() -> float:
        version, asked_at = next(versions), monotonic()
        first.client.put(f"/models/{MODEL}/aliases/champion", json={"version": version}).raise_for_status()
        wait_for(lambda: serves(second, version))
        took = monotonic() - asked_at
        assert serves(first, version)
        return took

    assert mostly_under(2.0, move)


def serves(server: Server, version: int) -> bool:
    response = server.client.post("/predict", json={"model": MODEL, "inputs": [PATIENT]})
    return response.json()["version"] == version
