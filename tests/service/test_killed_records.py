"""A server that is killed: which records of predictions are lost, and that what is kept is whole."""

from __future__ import annotations

import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import monotonic
from typing import NamedTuple

import httpx
import orjson
from support import PATIENT, Server, free_port, install, point, running, succeeds, wait_for

from models.artifact import Artifact
from service.records.prediction_recorder import LOST_SECONDS
from service.settings import Settings

CLIENTS = 3
ROWS = 64


class Answer(NamedTuple):
    """An answer that a client has read to its end, and when."""

    id: str
    sent: bytes
    body: bytes
    read_at: float


def test_a_killed_server_loses_its_last_second_of_records_at_most_and_tears_none(
    tmp_path: Path, diabetes_artifact: Artifact
) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port(), refresh_ms=100, record_predictions=1.0)
    settings.prepare_home()
    point(settings, "diabetes", install(settings, diabetes_artifact, "diabetes", "JOB-1"))

    lives = [one_life(settings, seconds) for seconds in (2.5, 1.2)]
    kept = kept_records(settings)

    for answers, killed_at in lives:
        assert sum(map(len, answers)) > 20
        for of_one_client in answers:
            found = [answer.id in kept for answer in of_one_client]
            old = [answer.read_at < killed_at - LOST_SECONDS for answer in of_one_client]
            assert all(is_kept for is_kept, is_old in zip(found, old, strict=True) if is_old)
            # They are written in the order of their answers: what is lost is the end, without a hole before it.
            assert found == sorted(found, reverse=True)
    answered = {answer.id: answer for answers, _ in lives for of_one_client in answers for answer in of_one_client}
    for prediction, (request, answer) in kept.items():
        if prediction in answered:  # else its client was killed off before it had read its answer
            assert (request, answer) == (answered[prediction].sent, answered[prediction].body)
        else:
            assert len(orjson.loads(answer)["predictions"]) == len(orjson.loads(request)["inputs"]) == ROWS
    a_kept_one = next(iter(kept))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        assert a_kept_one == server.client.get(f"/predictions/{a_kept_one}").json()["id"]


def one_life(settings: Settings, seconds: float) -> tuple[list[list[Answer]], float]:
    """Starts a server, asks it without pause, kills it; returns the answers of each client, and when it was killed."""
    with running(settings, "serve") as server, ThreadPoolExecutor(CLIENTS) as threads:
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        asking = [threads.submit(ask_until_it_is_gone, server, client) for client in range(CLIENTS)]
        Event().wait(seconds)
        killed_at = monotonic()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        return [each.result() for each in asking], killed_at


def ask_until_it_is_gone(server: Server, client: int) -> list[Answer]:
    answers: list[Answer] = []
    with httpx.Client(base_url=server.client.base_url, timeout=60) as http:
        while True:
            rows = [[value + client + len(answers) / 1000 for value in PATIENT]] * ROWS
            sent = orjson.dumps({"model": "diabetes", "inputs": rows})
            try:
                response = http.post("/predict", content=sent, headers={"content-type": "application/json"})
            except httpx.TransportError:
                return answers
            read_at = monotonic()
            assert response.status_code == 200, response.text
            answers.append(Answer(response.json()["id"], sent, response.content, read_at))


def kept_records(settings: Settings) -> dict[str, tuple[bytes, bytes]]:
    """Request and answer of each record, by id, as the database has them after the kill."""
    with sqlite3.connect(settings.home / "vitrine.sqlite") as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        rows = connection.execute("SELECT id, request, answer FROM predictions").fetchall()
    connection.close()
    return {prediction: (request.encode(), answer.encode()) for prediction, request, answer in rows}
