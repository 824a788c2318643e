"""Waits for a database that is away, where going on without it would be wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

logger = logging.getLogger("vitrine.jobs")

PAUSE_SECONDS = 1.0
SAID_EVERY_SECONDS = 60.0
Result = TypeVar("Result")


def patiently(action: Callable[[], Result], name: str) -> Result:
    """Does something with a database, again and again until it can be done. Says once a minute that it waits."""
    failures = 0
    while True:
        try:
            result = action()
        except (OperationalError, InterfaceError) as error:
            if failures % round(SAID_EVERY_SECONDS / PAUSE_SECONDS) == 0:
                logger.warning("waiting for %s: %s", name, str(error.orig).partition("\n")[0])
            failures += 1
            Event().wait(PAUSE_SECONDS)
            continue
        if failures:
            logger.info("%s is back", name)
        return result
