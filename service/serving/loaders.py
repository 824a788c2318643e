"""The threads that load versions: behind predictions, but what they open for predictions is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

NICE = 10
LOADERS = 2
"""Versions loaded at once, in threads of their own: predictions and the registry use the others."""

Opened = TypeVar("Opened")


class Loaders:
    """On Linux niceness belongs to a thread, is inherited by those it starts, and is never given back.

    So an engine with threads of its own is opened by a thread that is not niced, lest all its calls be.
    """

    def __init__(self) -> None:
        self._niced = ThreadPoolExecutor(LOADERS, "load", initializer=os.nice, initargs=(NICE,))
        self._ordinary = ThreadPoolExecutor(1, "open")
        self._ordinary.submit(int).result()  # its thread is started here, not by the first loader that needs it

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls something in a thread that is niced."""
        return await asyncio.get_running_loop().run_in_executor(self._niced, call, *arguments)

    def open(self, call: Callable[[], Opened]) -> Opened:
        """Calls something in the thread that is not, for a loader, which waits."""
        return self._ordinary.submit(call).result()

    def close(self) -> None:
        for threads in (self._niced, self._ordinary):
            threads.shutdown(wait=False, cancel_futures=True)
