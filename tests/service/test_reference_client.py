"""The process for shap's explainers: there while it is asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support import wait_for

from service.serving.reference_client import ReferenceClient


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
