"""Which workers there are, and which of them have fallen silent."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from models.database import create_tables, metadata, now, reader_of, writing

workers_table = sa.Table(
    "workers",
    metadata,
    sa.Column("worker", sa.String, primary_key=True),
    # Drawn at each start: of two processes under one name, the one that started last goes on.
    sa.Column("incarnation", sa.String, nullable=False),
    sa.Column("beats", sa.Integer, nullable=False),
    sa.Column("left", sa.Boolean, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", sa.String, nullable=False),
    sa.Column("beat_at", sa.String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is seen of a worker from outside. It lives as long as what is seen keeps changing."""

    incarnation: str
    beats: int
    left: bool = False


NEVER_SEEN = Pulse("", 0)
"""The pulse of a worker that holds jobs and is not in the table."""


class Membership:
    """This worker's place among the workers."""

    def __init__(self, engine: sa.Engine, worker: str) -> None:
        self._engine, self._reader, self.worker = engine, reader_of(engine), worker
        self._incarnation = secrets.token_hex(8)
        create_tables(engine)

    def join(self) -> None:
        """Takes the name; a process that had it before finds out at its next beat."""
        with writing(self._engine) as connection:
            connection.execute(workers_table.delete().where(workers_table.c.worker == self.worker))
            self._insert(connection)

    def beat(self) -> bool:
        """Says that this worker lives. False when another process has taken its name."""
        with writing(self._engine) as connection:
            mine = workers_table.c.worker == self.worker
            held = connection.execute(sa.select(workers_table.c.incarnation).where(mine)).scalar()
            if held is None:
                # Given up for dead while it could not be heard: its jobs are others' now, and it takes new ones.
                self._insert(connection)
            elif held == self._incarnation:
                values = {"beats": workers_table.c.beats + 1, "beat_at": now()}
                connection.execute(workers_table.update().where(mine).values(**values))
            return held in (None, self._incarnation)

    def leave(self) -> None:
        """Says that this worker ends: others take its jobs over at once."""
        mine = (workers_table.c.worker == self.worker, workers_table.c.incarnation == self._incarnation)
        with writing(self._engine) as connection:
            connection.execute(workers_table.update().where(*mine).values(left=True))

    def pulses(self) -> dict[str, Pulse]:
        columns = (workers_table.c.worker, workers_table.c.incarnation, workers_table.c.beats, workers_table.c.left)
        with self._reader.begin() as connection:
            return {
                row.worker: Pulse(row.incarnation, row.beats, row.left)
                for row in connection.execute(sa.select(*columns))
            }

    def forget(self, worker: str, pulse: Pulse) -> None:
        """Strikes a worker off, unless it has shown life since."""
        unchanged = (
            workers_table.c.worker == worker,
            workers_table.c.incarnation == pulse.incarnation,
            workers_table.c.beats == pulse.beats,
        )
        with writing(self._engine) as connection:
            connection.execute(workers_table.delete().where(*unchanged))

    def _insert(self, connection: sa.Connection) -> None:
        connection.execute(
            workers_table.insert().values(
                worker=self.worker,
                incarnation=self._incarnation,
                beats=0,
                left=False,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=now(),
                beat_at=now(),
            )
        )


class Silence:
    """Finds the workers that have fallen silent, by the clock of the one that listens.

    Clocks of other machines are not compared, and time in which the database could not be read does not count: a
    worker that cannot write its beat then is not dead.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, tuple[Pulse, float]] = {}

    def could_not_listen(self) -> None:
        self._since.clear()

    def silent(self, pulses: Mapping[str, Pulse], at: float) -> list[str]:
        """Those that have left, and those whose pulse has not changed for the allowed seconds up to the time `at`."""
        self._since = {
            worker: held if (held := self._since.get(worker)) and held[0] == pulse else (pulse, at)
            for worker, pulse in pulses.items()
        }
        return [worker for worker, (pulse, since) in self._since.items() if pulse.left or at - since >= self._seconds]
