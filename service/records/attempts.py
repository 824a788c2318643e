"""One attempt to write a group of records, and what is to be done with the group when it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from sqlalchemy import exc

from service.records.table import first_line

logger = logging.getLogger("vitrine.records")

_PASSING = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
"""A full disk, a locked, read-only or unreachable database: these are tried again until they pass."""

Outcome = Literal["written", "refused", "later"]
R = TypeVar("R")


def attempt(insert: Callable[[Sequence[R]], None], group: Sequence[R], kind: str) -> tuple[Outcome, str]:
    """Tries to write a group.

    Args:
        insert: commits some records, or raises.
        kind: what the records are of, in words.

    Returns:
        "written"; "refused" where no attempt would succeed, so that the group is to be dropped; "later" where another
        may; and why it failed.
    """
    try:
        insert(group)
    except Exception as error:
        # Whatever a database or its driver raises, the thread that writes lives on and requests are answered.
        reason = first_line(error) if isinstance(error, exc.DBAPIError) else str(error)
        if isinstance(error, _PASSING):
            return "later", reason
        logger.exception("%d %s cannot be recorded and are dropped", len(group), kind)
        return "refused", reason
    return "written", ""
