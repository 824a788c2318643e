"""The process for shap's explainers: there while it is asked for."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import wait_for

from service.serving.reference_client import LOADED_VERSIONS, ReferenceClient


def test_the_process_ends_when_it_has_had_nothing_to_do_and_another_is_started_when_it_has(tmp_path: Path) -> None:
    client = ReferenceClient(tmp_path / "log", idle_seconds=0.1)
    client._running()
    first = wait_for(lambda: client.pid)

    async def rest() -> None:
        resting = asyncio.create_task(client.rest_when_idle())
        while client.pid is not None:
            await asyncio.sleep(0.05)
        resting.cancel()

    asyncio.run(asyncio.wait_for(rest(), 60))

    wait_for(lambda: not Path(f"/proc/{first}").exists())
    client._running()
    second = wait_for(lambda: client.pid)
    client.close()
    assert first != second


def test_a_version_that_is_at_work_is_not_given_up_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    orders: dict[str, Future[Any]] = {}

    def submit(_kind: str, *, key: str, **_order: Any) -> Future[Any]:
        return orders.setdefault(key, Future())

    process: Any = SimpleNamespace(load=lambda key, _directory: loaded.append(key), unload=loaded.remove, submit=submit)
    client = ReferenceClient(None)
    monkeypatch.setattr(client, "_running", lambda: process)
    keys = [f"m/{version}#1" for version in range(1, LOADED_VERSIONS + 3)]

    async def explain(key: str) -> Any:
        version: Any = SimpleNamespace(key=key, artifact=SimpleNamespace(directory=Path()))
        return await client.explain(version, np.zeros((1, 1), np.float32), None)  # type: ignore[arg-type]

    async def test() -> None:
        tasks = [asyncio.create_task(explain(key)) for key in keys]
        await asyncio.sleep(0)
        assert keys == loaded
        for key in keys:
            orders[key].set_result([])
        await asyncio.gather(*tasks)
        orders["m/9#1"] = Future()
        orders["m/9#1"].set_result([])
        await explain("m/9#1")

    asyncio.run(test())

    assert [*keys[3:], "m/9#1"] == loaded
