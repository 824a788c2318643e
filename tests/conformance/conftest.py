"""Whom the rules of the Open Inference Protocol V2 are asked of: a server by URL, or by default our own.

    python -m pytest tests/conformance --confcutdir=tests/conformance --server-url http://host:8080 --model iris

The kit needs pytest, httpx and numpy. What a server does not say it has (`extensions` of `GET /v2`) is skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from protocol import Target

OUR_MODELS = ("diabetes", "digits")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server-url", help="of the server; default: one of our own is started")
    parser.addoption("--model", action="append", help="a model that it serves; may be given several times")
    parser.addoption("--inputs", type=Path, help="a file with the JSON of inputs that the models take, by model")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", metafunc.config.getoption("model", None) or OUR_MODELS, scope="session")


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    url = request.config.getoption("server_url", None)
    if url is None:
        yield request.getfixturevalue("our_server")
        return
    # A connection each: some servers close one that they have answered an error on.
    with httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client


@pytest.fixture(scope="session")
def our_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """`vitrine serve` over versions that are trained for all tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "service"))
    from support import free_port, install, point, running, succeeds, wait_for

    from service.settings import Settings

    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port(), refresh_ms=100)
    settings.prepare_home()
    for model in OUR_MODELS:
        artifact = request.getfixturevalue(f"{model}_artifact")
        point(settings, model, install(settings, artifact, model, f"JOB-{model}"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"), seconds=180)
        yield server.client


@pytest.fixture
def target(request: pytest.FixtureRequest, client: httpx.Client, model: str) -> Target:
    file = request.config.getoption("inputs", None)
    given = json.loads(file.read_text())[model] if file else None
    return Target.of(client, model, given)
