"""The Python client: against the real server, and where it must send what a server is yet to be asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import numpy as np
import pytest
from support import EIGHT, PATIENT, Server, free_port

import vitrine
from vitrine import AsyncClient, Client, Event, ServerUnreachable, VitrineError


@pytest.fixture
def client(server: Server) -> Any:
    with Client(str(server.client.base_url)) as client:
        yield client


def test_the_async_client_answers_what_the_sync_client_answers(server: Server, client: Client) -> None:
    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(str(server.client.base_url)) as client:
            return await asyncio.gather(
                client.predict("diabetes", [PATIENT]),
                client.explain("diabetes", [PATIENT], top_k=2),
                client.models(),
                client.card("diabetes"),
            )

    predictions, answer, models, card = asyncio.run(ask())

    assert predictions == client.predict("diabetes", [PATIENT])
    assert answer["explanations"] == client.explain("diabetes", [PATIENT], top_k=2)["explanations"]
    assert (models, card) == (client.models(), client.card("diabetes"))


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_a_refused_call_says_where_and_why(client: Client) -> None:
    with pytest.raises(VitrineError, match="1 value in the inputs cannot be used") as caught:
        client.predict("diabetes", [PATIENT[:3]])

    assert (caught.value.status, caught.value.title) == (422, "Inputs do not fit the signature")
    assert caught.value.errors[0]["pointer"] == "#/inputs/0"
    assert caught.value.detail == str(caught.value)


def test_nobody_listening_is_said_in_words() -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(ServerUnreachable, match=r"Nobody answers at http://127\.0\.0\.1:.*vitrine up"),
    ):
        client.models()


def test_an_address_that_is_none_is_said_in_words() -> None:
    with Client("localhost:8000") as client, pytest.raises(ServerUnreachable, match="Expected http://HOST:PORT"):
        client.models()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(200, text="<html>welcome</html>"), "is not a Vitrine server"),
        (httpx.Response(502, text="bad gateway"), "bad gateway"),
        (httpx.Response(200, json={"other": 1}), "is not a Vitrine server"),
    ],
)
def test_something_else_at_the_address_is_said_in_words(answer: httpx.Response, words: str) -> None:
    transport = httpx.MockTransport(lambda _request: answer)

    with Client(transport=transport) as client, pytest.raises(VitrineError, match=words):
        client.models()


def test_the_request_id_of_a_failure_can_be_told() -> None:
    answer = httpx.Response(500, json={"detail": "Something failed."}, headers={"X-Request-Id": "abc"})

    with (
        Client(transport=httpx.MockTransport(lambda _request: answer)) as client,
        pytest.raises(VitrineError) as caught,
    ):
        client.models()

    assert (caught.value.request_id, caught.value.status) == ("abc", 500)


@pytest.mark.parametrize(
    ("call", "method", "path", "headers"),
    [
        (vitrine.train({"model": "m"}, idempotency_key="k"), "POST", "/train", {"Idempotency-Key": "k"}),
        (vitrine.cancel("J"), "POST", "/train/J/cancel", {}),
        (vitrine.resume("J"), "POST", "/train/J/resume", {}),
        (vitrine.logs("J", tail=5), "GET", "/train/J/logs?tail=5", {}),
        (vitrine.explanation("E"), "GET", "/explanations/E", {}),
        (vitrine.replay("E"), "POST", "/explanations/E/replay", {}),
        (vitrine.picture("m", [1], kind="svg"), "POST", "/explain?width=800&theme=light", {"Accept": "image/svg+xml"}),
        (vitrine.surrogate("m", 2), "GET", "/models/m/versions/2/surrogate", {}),
        (vitrine.surrogate_text("m"), "GET", "/models/m/versions/champion/surrogate", {"Accept": "text/plain"}),
        (vitrine.card("a/b", "c?d"), "GET", "/models/a%2Fb/versions/c%3Fd", {}),
    ],
)
def test_a_call_is_sent_as_the_api_has_it(
    call: vitrine.Call[Any], method: str, path: str, headers: dict[str, str]
) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    with Client(transport=httpx.MockTransport(answer)) as client:
        client.send(call)

    (request,) = sent
    assert (request.method, request.url.raw_path.decode()) == (method, path)
    assert headers.items() <= {name: request.headers[name] for name in headers}.items()


def test_a_long_deadline_gives_the_answer_more_time() -> None:
    seconds = []

    def answer(request: httpx.Request) -> httpx.Response:
        seconds.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={})

    with Client(timeout_seconds=10, transport=httpx.MockTransport(answer)) as client:
        client.explain("m", [[1]], deadline_ms=90_000)

    assert seconds == [100]


def event(number: int, status: str) -> str:
    return f"id: {number}\nevent: status\ndata: {json.dumps({'status': status})}\n\n"


def test_events_go_on_after_a_broken_stream_from_the_last_one_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitrine._EventStream, "pause_seconds", 0.0)
    answers = [
        (200, ": still here\n\n" + event(1, "running") + "id: 2\ndata: {"),
        (503, "draining"),
        (200, event(2, "succeeded")),
    ]
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Last-Event-ID"))
        status, text = answers[len(seen) - 1]
        return httpx.Response(status, text=text)

    async def gather() -> list[Event]:
        async with AsyncClient(transport=httpx.MockTransport(answer)) as client:
            return [event async for event in client.events("J")]

    with Client(transport=httpx.MockTransport(answer)) as client:
        received = list(client.events("J"))
    first, seen[:] = list(seen), []
    awaited = asyncio.run(gather())

    assert [event.data["status"] for event in received] == ["running", "succeeded"]
    assert (first, seen) == ([None, "1", "1"], [None, "1", "1"])
    assert awaited == received


def test_events_of_an_unknown_job_raise_at_once() -> None:
    answer = httpx.Response(404, json={"detail": "There is no job 'J'."})

    with (
        Client(transport=httpx.MockTransport(lambda _request: answer)) as client,
        pytest.raises(VitrineError, match="There is no job"),
    ):
        list(client.events("J"))


def test_following_a_job_bears_a_restart_but_not_for_ever() -> None:
    answers = [{"status": "running"}, None, {"status": "succeeded"}]

    def answer(_request: httpx.Request) -> httpx.Response:
        document = answers.pop(0)
        return (
            httpx.Response(503, json={"detail": "restarting"})
            if document is None
            else httpx.Response(200, json=document)
        )

    with Client(transport=httpx.MockTransport(answer)) as client:
        followed = [document["status"] for document in client.follow("J", every_seconds=0)]
        answers[:] = [None]
        with pytest.raises(VitrineError, match="restarting"):
            list(client.follow("J", every_seconds=0, patience_seconds=0))

    assert followed == ["running", "succeeded"]


def test_columns_as_a_shap_explanation_are_what_the_server_answered(client: Client) -> None:
    rows = [PATIENT, [*PATIENT[:2], 25.0, *PATIENT[3:]]]
    answer = client.explain("diabetes", rows)

    explanation = client.explain_as_shap("diabetes", rows)

    expected = [[a["attribution"] for a in row["targets"][0]["attributions"]] for row in answer["explanations"]]
    assert explanation.values.tolist() == expected
    assert explanation.feature_names[2] == "bmi"
    assert explanation.output_names == "progression"
    assert explanation.data[1].tolist() == pytest.approx(rows[1])
    assert explanation.base_values + explanation.values.sum(axis=1) == pytest.approx(
        [row["targets"][0]["value"] for row in answer["explanations"]], rel=1e-4
    )
    assert explanation.error_std.tolist() == np.zeros((2, 10)).tolist()
    assert explanation[0, "bmi"].values == expected[0][2]


def test_shap_itself_plots_columns_and_images(client: Client) -> None:
    import matplotlib

    matplotlib.use("agg")
    import shap
    from matplotlib import pyplot

    columns = client.explain_as_shap("breast-cancer", [[1.0] * 30, [2.0] * 30], target="all", deadline_ms=200)
    images = client.explain_as_shap("digits", [EIGHT, EIGHT], target=["8", "3"], deadline_ms=200)

    shap.plots.waterfall(columns[0, :, "benign"], show=False)
    shap.plots.image(images, show=False)
    pyplot.close("all")

    assert (columns.values.shape, columns.base_values.shape) == ((2, 30, 2), (2, 2))
    assert (images.values.shape, images.data.shape) == ((2, 8, 8, 2), (2, 8, 8))
    assert list(images.output_names) == ["8", "3"]


def test_top_k_has_no_shap_explanation(client: Client) -> None:
    with pytest.raises(ValueError, match="Leave out top_k"):
        client.explain_as_shap("diabetes", [PATIENT], top_k=2)
