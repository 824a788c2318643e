"""One reading for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class SharedCall:
    """Callers at the same time share a call: one that began after they called.

    A caller that is cancelled takes nobody's call along.
    """

    def __init__(self, call: Callable[[], Awaitable[None]]) -> None:
        self._call = call
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        if self._running is None:
            self._running = self._begin(None)
            await asyncio.shield(self._running)
            return
        if self._next is None:
            self._next = self._begin(self._running)
        await asyncio.shield(self._next)

    def _begin(self, after: asyncio.Task[None] | None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(after))
        task.add_done_callback(self._ended)
        return task

    async def _run(self, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        await self._call()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running, self._next = self._next, None
        retrieve(task)


def retrieve(task: asyncio.Future[Any]) -> None:
    """Takes a task's error: it has been noted where it was raised, and nobody may be waiting for it."""
    if not task.cancelled():
        task.exception()
