"""Records an explanation while its request waits: shortly when all is well, not at all when it is not."""

from __future__ import annotations

import asyncio

from service.records.keeping import Keeping
from service.records.record import record_of
from service.records.writer import RecordWriter
from service.serving.explainer import Explained

COMMIT_SECONDS = 2.5
"""How long a request waits for its commit: a little longer than the database may wait for a lock."""


class Recorder:
    """Keeps explanations as they are made.

    Args:
        keeping: what records may hold of the values that were explained.
    """

    def __init__(self, writer: RecordWriter, keeping: Keeping) -> None:
        self._writer, self._keeping = writer, keeping

    async def keep(self, explained: Explained) -> bool:
        """Whether an explanation is kept: when True, its id will be found whatever happens to this process."""
        kept = self._writer.submit(record_of(explained, self._keeping))
        await asyncio.wait({asyncio.wrap_future(kept)}, timeout=COMMIT_SECONDS)
        return self._writer.give_up(kept, COMMIT_SECONDS)


async def keep_nothing(_explained: Explained) -> bool:
    """For a server that records nothing."""
    return False
