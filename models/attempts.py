"""Which attempt of a job may write: every start of a job gets a higher number, and the highest one alone goes on.

A worker that was silent for too long has its jobs taken over by another; when it comes back, its trainer still runs.
The number is the fence between the two (Kleppmann 2016, "How to do distributed locking"): it is checked before each
checkpoint, before a version is put in place, and in the transactions that register and promote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from models.database import create_tables, metadata, now, reader_of, writing
from models.errors import Overtaken

attempts_table = sa.Table(
    "job_attempts",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("worker", sa.String, nullable=False),
    sa.Column("began_at", sa.String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    worker: str
    began_at: str


class Attempts:
    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        create_tables(engine)

    def begin(self, job: str, worker: str) -> int:
        """Starts an attempt of a job; every earlier one is overtaken from now on. Returns its number, from 1."""
        with writing(self._engine) as connection:
            attempt = (_current(connection, job) or 0) + 1
            values = {"attempt": attempt, "worker": worker, "began_at": now()}
            if attempt == 1:
                connection.execute(attempts_table.insert().values(job=job, **values))
            else:
                connection.execute(attempts_table.update().where(attempts_table.c.job == job).values(**values))
        return attempt

    def check(self, job: str, attempt: int) -> None:
        """Raises `Overtaken` when a later attempt of the job has begun."""
        with self._reader.begin() as connection:
            check_attempt(connection, job, attempt)

    def latest(self, jobs: Sequence[str]) -> dict[str, Attempt]:
        """The latest attempt of each job that has begun."""
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(attempts_table).where(attempts_table.c.job.in_(jobs)))
            return {row.job: Attempt(row.attempt, row.worker, row.began_at) for row in rows}


def check_attempt(connection: sa.Connection, job: str, attempt: int) -> None:
    """The same within a transaction of the caller's: the fence holds for all that is written in it."""
    if (current := _current(connection, job)) is not None and current > attempt:
        raise Overtaken(job, attempt, current)


def _current(connection: sa.Connection, job: str) -> int | None:
    return connection.execute(sa.select(attempts_table.c.attempt).where(attempts_table.c.job == job)).scalar()
