"""Sweeps away, now and then, the records that are older than they are kept."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from service.records.store import ExplanationStore

logger = logging.getLogger("vitrine.records")

SWEEP_SECONDS = 600.0


async def sweep_for_ever(store: ExplanationStore) -> None:
    """Sweeps at once and then every ten minutes, for as long as it is not cancelled."""
    while True:
        try:
            if swept := await asyncio.to_thread(store.sweep):
                logger.info("%d explanations have reached their age and are deleted", swept)
        except SQLAlchemyError:
            # The database is away or full: the next round finds what this one has left.
            logger.warning("old explanations could not be deleted", exc_info=True)
        await asyncio.sleep(SWEEP_SECONDS)
