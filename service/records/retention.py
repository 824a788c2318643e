"""Sweeps away, now and then, the records that are older than they are kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger("vitrine.records")

SWEEP_SECONDS = 600.0


async def sweep_for_ever(sweep: Callable[[], int]) -> None:
    """Sweeps at once and then every ten minutes, for as long as it is not cancelled.

    Args:
        sweep: deletes what has reached its age, and returns how many there were.
    """
    while True:
        try:
            if swept := await asyncio.to_thread(sweep):
                logger.info("%d explanations have reached their age and are deleted", swept)
        except SQLAlchemyError:
            # The database is away or full: the next round finds what this one has left.
            logger.warning("old explanations could not be deleted", exc_info=True)
        await asyncio.sleep(SWEEP_SECONDS)
