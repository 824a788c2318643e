"""Sweeps away, now and then, the records that are not to be kept any longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger("vitrine.records")

SWEEP_SECONDS = 600.0


async def sweep_for_ever(sweep: Callable[[], int], kind: str) -> None:
    """Sweeps at once and then every ten minutes, for as long as it is not cancelled.

    Args:
        sweep: deletes what is not to be kept any longer, and returns how many there were.
        kind: what they are, in words.
    """
    while True:
        try:
            if swept := await asyncio.to_thread(sweep):
                logger.info("%d %s are no longer to be kept and are deleted", swept, kind)
        except SQLAlchemyError:
            # The database is away or full: the next round finds what this one has left.
            logger.warning("old %s could not be deleted", kind, exc_info=True)
        await asyncio.sleep(SWEEP_SECONDS)
