"""Works beside the requests that are to go on for as long as a process lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

logger = logging.getLogger("vitrine.background")

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


async def kept_up(
    work: Callable[[], Awaitable[None]],
    name: str,
    *,
    first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    clock: Callable[[], float] = monotonic,
) -> None:
    """Does a work until it returns; where it fails, with an error that it has not foreseen, that is logged and it is
    begun again after a pause, which doubles up to a minute; from the start again after a time that was longer.

    A task whose exception nobody awaits ends without a word, and what it was for is not done from then on.
    """
    pause_seconds = first_pause_seconds
    while True:
        began_at = clock()
        try:
            await work()
            return
        except Exception:
            if clock() - began_at > LONGEST_PAUSE_SECONDS:
                pause_seconds = first_pause_seconds
            logger.exception("%s: failed, and is begun again in %g s", name, pause_seconds)
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
