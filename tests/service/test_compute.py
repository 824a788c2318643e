"""The compute process as its client sees it: killed, stopped, given orders that kill."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import wait_for

from explain.caption import Caption
from models.artifact import Artifact
from service.errors import ComputeUnavailable
from service.serving.compute import ComputeClient
from service.serving.compute_care import Care, reload_pause, restart_pause
from service.serving.compute_process import ComputeProcess

CAPTION = Caption("title", "output", "method", 0.0, 1.0)


def picture(client: ComputeClient, names: Any = ("a",)) -> Future[Any]:
    columns = {"values": [1.0], "attributions": np.ones(1), "half_widths": np.zeros(1)}
    return client.submit("waterfall", names=names, **columns, caption=CAPTION, width=300, theme="light")


def lethal(client: ComputeClient) -> Future[Any]:
    """An order that ends the process which works on it."""
    return picture(client, names=defaultdict(partial(os._exit, 9)))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeClient]:
    client = ComputeClient(
        tmp_path_factory.mktemp("compute") / "log", Care(unloads_before_renewal=2, quick_death_seconds=600)
    )
    client.start()
    yield client
    client.close()


@pytest.mark.long
def test_an_order_that_always_kills_fails_alone(client: ComputeClient) -> None:
    picture(client).result(180)
    before = client.restarts

    bomb, innocents = lethal(client), [picture(client) for _ in range(3)]
    pictures = [order.result(180) for order in innocents]

    with pytest.raises(ComputeUnavailable, match="twice"):
        bomb.result(180)
    assert all(found.startswith(b"\x89PNG") for found in pictures)
    assert 2 == client.restarts - before
    assert client.is_failing
    assert "died 2 times" in (client.problem or "")
    assert picture(client).result(180)


def test_a_cancelled_order_is_dropped_and_the_next_one_works(client: ComputeClient) -> None:
    first, second = picture(client), picture(client)

    assert second.cancel()

    assert first.result(180)
    assert picture(client).result(180)
    assert {} == client._orders


def test_an_error_that_is_not_ours_comes_back_in_words(client: ComputeClient) -> None:
    from service.errors import ComputeFailed

    with pytest.raises(ComputeFailed, match="TypeError"):
        client.submit("waterfall", nonsense=1).result(180)


def test_a_version_is_loaded_again_in_a_new_process(client: ComputeClient, diabetes_artifact: Artifact) -> None:
    assert "cpu" == client.load("again", diabetes_artifact.directory).result(180).device
    process = client.pid
    assert process is not None
    rows = np.zeros((1, 10), np.float32)
    before = client.submit("predict", key="again", rows=rows, output="value").result(180)

    os.kill(process, signal.SIGKILL)
    after = client.submit("predict", key="again", rows=rows, output="value").result(180)

    np.testing.assert_array_equal(before, after)
    assert process != client.pid
    assert "cpu" == client.loading("again").result(180).device


def test_a_version_that_cannot_be_loaded_says_why_and_harms_no_other(client: ComputeClient, tmp_path: Path) -> None:
    from models.errors import CorruptVersion

    loading = client.load("missing", tmp_path / "nothing")
    order = client.submit("predict", key="missing", rows=np.zeros((1, 10), np.float32), output="value")

    for future in (loading, order):
        with pytest.raises(CorruptVersion, match=r"manifest\.json is missing"):
            future.result(180)
    assert picture(client).result(180)
    client.unload("missing")


@pytest.mark.soak
def test_after_many_unloads_the_process_is_renewed_without_losing_an_order(
    client: ComputeClient, diabetes_artifact: Artifact
) -> None:
    client.load("kept", diabetes_artifact.directory).result(180)
    process, renewals, restarts = client.pid, client.renewals, client.restarts
    rows = np.zeros((1, 10), np.float32)

    def predict() -> Any:
        return client.submit("predict", key="kept", rows=rows, output="value").result(180)

    expected = predict()
    for i in range(2):
        client.load(f"passing-{i}", diabetes_artifact.directory).result(180)
        client.unload(f"passing-{i}")
    wait_for(lambda: np.array_equal(expected, predict()) and client.renewals > renewals)

    assert process != client.pid
    assert restarts == client.restarts
    np.testing.assert_array_equal(expected, predict())
    wait_for(lambda: process is not None and not Path(f"/proc/{process}").exists())


@pytest.mark.soak
def test_a_stopped_process_holds_up_nobody_and_is_replaced(tmp_path: Path) -> None:
    client = ComputeClient(tmp_path / "log", Care(stall_seconds=2))
    client.start()
    try:
        picture(client).result(180)
        process = client.pid
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        # Far more than a socket holds: giving orders must not wait for a process that takes none.
        large = np.zeros(2**20)
        orders = [client.submit("waterfall", names=["a"], values=large, attributions=large) for _ in range(20)]
        [order.cancel() for order in orders]
        assert picture(client).result(180)
        assert process != client.pid
    finally:
        client.close()


def test_a_version_that_is_given_up_before_its_load_begins_is_not_loaded(diabetes_artifact: Artifact) -> None:
    begun: list[Path] = []
    may_load = threading.Event()

    def load(artifact: Artifact, _courtesy: Any) -> Any:
        begun.append(artifact.directory)
        may_load.wait(60)
        return SimpleNamespace(report="loaded")

    with compute_process(load) as orders:
        for number, key in enumerate(("first", "second"), start=1):
            orders.send((number, "load", {"key": key, "directory": str(diabetes_artifact.directory)}))
        wait_for(lambda: begun)
        orders.send((0, "unload", {"key": "second"}))
        orders.send((3, "load", {"key": "third", "directory": str(diabetes_artifact.directory)}))
        orders.send((0, "ping", {}))
        heard = answers_until(orders, (0, "pong", None))
        may_load.set()
        heard += answers_until(orders, (3, "done", "loaded"))

    assert (1, "done", "loaded") in heard
    assert 2 == len(begun)


@contextmanager
def compute_process(load: Any) -> Iterator[Connection]:
    """What takes orders in the compute process, here, with a thread for loads; and the end that gives them."""
    ours, theirs = socket.socketpair()
    process = ComputeProcess(Connection(theirs.detach()), load)
    process.start("load", ["load"])
    thread = threading.Thread(target=process.run, daemon=True)
    thread.start()
    with Connection(ours.detach()) as orders:
        yield orders
    thread.join(60)


def answers_until(orders: Connection, last: tuple[int, str, Any]) -> list[Any]:
    heard: list[Any] = []
    while last not in heard:
        assert orders.poll(60)
        heard.append(orders.recv())
    return heard


def test_orders_fail_when_the_server_stops(tmp_path: Path) -> None:
    client = ComputeClient(tmp_path / "log")
    client.start()
    order = picture(client)

    client.close()

    with pytest.raises(ComputeUnavailable, match="stopping"):
        order.result(1)
    with pytest.raises(ComputeUnavailable, match="stopping"):
        picture(client)
    assert client.pid is None or not Path(f"/proc/{client.pid}").exists()


def test_pauses_grow_to_a_limit() -> None:
    assert [0.0, 1.0, 2.0, 4.0, 30.0, 30.0] == [restart_pause(deaths, 30) for deaths in (1, 2, 3, 4, 7, 50)]
    assert [2.0, 4.0, 600.0] == [reload_pause(failures) for failures in (1, 2, 20)]
