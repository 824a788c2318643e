"""Whom the rules of the Open Inference Protocol V2 are asked of: a server by URL, or by default our own.

    python -m pytest tests/conformance --confcutdir=tests/conformance --server-url http://host:8080 --model iris
    python -m pytest tests/conformance --confcutdir=tests/conformance --grpc-address host:8081 --model iris

The kit needs pytest, httpx and numpy, and for gRPC grpcio and protobuf. Of a server that is named by one of the two, or
by both, only that is asked; what it does not say it has (its metadata's `extensions`) is skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from protocol import Target
from rpc_protocol import RpcTarget

OUR_MODELS = ("diabetes", "digits")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server-url", help="of the server; default: one of our own is started")
    parser.addoption("--grpc-address", help="of the same server, host:port, to ask the rules of gRPC")
    parser.addoption("--model", action="append", help="a model that it serves; may be given several times")
    parser.addoption("--inputs", type=Path, help="a file with the JSON of inputs that the models take, by model")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", metafunc.config.getoption("model", None) or OUR_MODELS, scope="session")


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    url = _given(request, "server_url", "grpc_address")
    if url is None:
        yield request.getfixturevalue("our_server").client
        return
    # A connection each: some servers close one that they have answered an error on.
    with httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client


@pytest.fixture(scope="session")
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    address = _given(request, "grpc_address", "server_url")
    if address is None:
        address = f"127.0.0.1:{request.getfixturevalue('our_server').settings.grpc_port}"
    with grpc.insecure_channel(address) as channel:
        yield channel


def _given(request: pytest.FixtureRequest, option: str, other: str) -> str | None:
    """An option that names a server; None for ours. Skips where only the other one names it."""
    given = request.config.getoption(option, None)
    if given is None and request.config.getoption(other, None):
        pytest.skip(f"no --{option.replace('_', '-')} was given")
    return given


@pytest.fixture(scope="session")
def our_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`vitrine serve` over versions that are trained for all tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "service"))
    from support import free_port, install, point, running, succeeds, wait_for

    from service.settings import Settings

    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, port=free_port(), grpc_port=free_port(), refresh_ms=100)
    settings.prepare_home()
    for model in OUR_MODELS:
        artifact = request.getfixturevalue(f"{model}_artifact")
        point(settings, model, install(settings, artifact, model, f"JOB-{model}"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"), seconds=180)
        yield server


@pytest.fixture
def target(request: pytest.FixtureRequest, client: httpx.Client, model: str) -> Target:
    return Target.of(client, model, _inputs(request, model))


@pytest.fixture(scope="session")
def rpc_target(request: pytest.FixtureRequest, channel: grpc.Channel, model: str) -> RpcTarget:
    return RpcTarget.of(channel, model, _inputs(request, model))


def _inputs(request: pytest.FixtureRequest, model: str) -> list[dict[str, Any]] | None:
    file = request.config.getoption("inputs", None)
    return json.loads(file.read_text())[model] if file else None
