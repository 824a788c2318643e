"""The demo, and the welcome of `vitrine up`, while the API process comes and goes."""

from __future__ import annotations

import io

import httpx
import pytest
from rich.console import Console

from service.demo import DemoFailed, print_welcome, train_demo_models

ADDRESS = "http://127.0.0.1:8000"


def client_of(answers: list[httpx.Response | Exception]) -> httpx.Client:
    """A client that is given one answer after the other."""

    def answer(_request: httpx.Request) -> httpx.Response:
        following = answers.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    return httpx.Client(base_url=ADDRESS, transport=httpx.MockTransport(answer))


def test_the_welcome_is_said_by_whichever_api_process_answers() -> None:
    answers: list[httpx.Response | Exception] = [
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        httpx.ConnectError("Connection refused"),
        httpx.Response(200, json={"models": []}),
    ]
    printed = io.StringIO()
    with client_of(answers) as client:
        print_welcome(client, Console(file=printed, width=60), ADDRESS)

    assert 1 == printed.getvalue().count("Vitrine is ready at")
    assert f"Metrics: {ADDRESS}/metrics" in printed.getvalue()  # on one line, however narrow: to be clicked on


def test_a_demo_model_that_is_refused_is_said_at_once() -> None:
    nothing = [httpx.Response(200, json={name: []}) for name in ("models", "jobs")]
    answers: list[httpx.Response | Exception] = [*nothing, httpx.Response(422)]

    with client_of(answers) as client, pytest.raises(DemoFailed, match="POST /train"):
        train_demo_models(client, Console(file=io.StringIO()))
