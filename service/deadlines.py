"""Many waits of the same length, watched by one timer: a timer for each would cost more than the waits mostly do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadlines:
    """Calls what has waited for too long. Only for the event loop's thread.

    Args:
        seconds: how long each may wait.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # In the order of their deadlines, since all wait for as long.
        self._waiting: dict[Callable[[], None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, late: Callable[[], None]) -> None:
        """From now on `late` is called once the time has passed, unless its wait ends before."""
        loop = asyncio.get_running_loop()
        self._waiting[late] = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._sweep)

    def end(self, late: Callable[[], None]) -> None:
        self._waiting.pop(late, None)

    def _sweep(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting:
            late, deadline = next(iter(self._waiting.items()))
            if deadline > now:
                self._timer = loop.call_at(deadline, self._sweep)
                return
            del self._waiting[late]
            late()
