"""How much memory trainers took: each writes its peak as it grows, so that one killed for it has left its figure."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.database import metadata, now, reader_of, writing

logger = logging.getLogger("vitrine.trainer")

INTERVAL_SECONDS = 2.0

memory_table = sa.Table(
    "trainer_memory",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("peak_bytes", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.String, nullable=False),
)


class TrainerMemory:
    """Its table is made with the others by the stores of jobs: a figure must not be what a trainer waits for."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reader = engine, reader_of(engine)

    @contextmanager
    def noted(self, job: str, model: str) -> Iterator[None]:
        """Notes the peak of this process while a block runs, and once more at its end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._follow, args=(job, model, ended), name="memory", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            # A database that is locked must not keep the job from its end.
            thread.join(5)

    def _follow(self, job: str, model: str, ended: threading.Event) -> None:
        noted, last = 0, False
        while not last:
            last = ended.wait(INTERVAL_SECONDS)
            peak = peak_resident_bytes()
            # Each write takes the database's one lock: not for growth that nobody would see.
            if peak > noted * (1 if last else 1.02):
                try:
                    self.write(job, model, peak)
                    noted = peak
                except SQLAlchemyError as error:
                    # A figure is no reason to lose a job.
                    logger.warning("the memory of this trainer could not be noted: %s", error)

    def write(self, job: str, model: str, peak_bytes: int) -> None:
        """Sets the peak of a job; that of an earlier attempt stays where it was higher."""
        with writing(self._engine) as connection:
            where = memory_table.c.job == job
            held = connection.execute(sa.select(memory_table.c.peak_bytes).where(where)).scalar()
            if held is None:
                connection.execute(
                    memory_table.insert().values(job=job, model=model, peak_bytes=peak_bytes, updated_at=now())
                )
            elif held < peak_bytes:
                connection.execute(memory_table.update().where(where).values(peak_bytes=peak_bytes, updated_at=now()))

    def latest_peaks(self) -> dict[str, int]:
        """The peak in bytes of each model's latest job that has noted one. (A job's id rises with time.)"""
        latest = sa.select(sa.func.max(memory_table.c.job)).group_by(memory_table.c.model)
        query = sa.select(memory_table.c.model, memory_table.c.peak_bytes).where(memory_table.c.job.in_(latest))
        with self._reader.begin() as connection:
            return {row.model: row.peak_bytes for row in connection.execute(query)}


def peak_resident_bytes(status: Path = Path("/proc/self/status")) -> int:
    """The most memory this process has held at once; 0 where the system does not say.

    Not `getrusage`: its figure begins with that of the process that started this one.
    """
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
