"""How far each job has come, and what happened on the way. The job's state itself is DBOS's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from models.database import create_tables, metadata, now, reader_of, writing

KEPT_EVENTS = 1000
"""Progress events kept of a job: a client that has been away for longer starts from the oldest that is left."""

progress_table = sa.Table(
    "job_progress",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("progress", sa.JSON),
    sa.Column("updated_at", sa.String, nullable=False),
)
events_table = sa.Table(
    "job_events",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("event", sa.String, nullable=False),
    # What may happen to a job only once has a name: whoever sees it first writes it down.
    sa.Column("name", sa.String),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.UniqueConstraint("job", "name"),
)


@dataclass(frozen=True, slots=True)
class JobEvent:
    id: int
    event: Literal["progress", "status"]
    data: dict[str, Any]


class JobProgress:
    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        create_tables(engine)

    def write(self, job: str, step: str, progress: dict[str, Any] | None = None) -> None:
        """Sets the step of a job; its epoch figures stay as they are when none are given."""
        values: dict[str, Any] = {"step": step, "updated_at": now()}
        if progress is not None:
            values["progress"] = progress
        with writing(self._engine) as connection:
            update = progress_table.update().where(progress_table.c.job == job).values(**values)
            if connection.execute(update).rowcount == 0:
                connection.execute(progress_table.insert().values(job=job, **values))
            _append(connection, job, "progress", None, {"job": job, "step": step, "progress": progress})

    def note_status(self, document: dict[str, Any]) -> None:
        """Writes down that a job is in a state, unless that is written already."""
        job, name = document["job"], f"{document['status']} {document['attempt']}"
        noted = sa.select(events_table.c.id).where(events_table.c.job == job, events_table.c.name == name)
        with self._reader.begin() as connection:
            if connection.execute(noted).first() is not None:
                return
        shown = ("job", "model", "status", "attempt", "version", "promoted", "error")
        with writing(self._engine) as connection:
            if connection.execute(noted).first() is None:
                _append(connection, job, "status", name, {key: document[key] for key in shown})

    def read(self, jobs: Sequence[str]) -> dict[str, tuple[str, dict[str, Any] | None]]:
        """Step and epoch figures by job, for those that have begun."""
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(progress_table).where(progress_table.c.job.in_(jobs))).mappings()
            return {row["job"]: (row["step"], row["progress"]) for row in rows}

    def events(self, job: str, *, after: int) -> list[JobEvent]:
        """What happened to a job after the event with a number, in order."""
        columns = (events_table.c.id, events_table.c.event, events_table.c.data)
        chosen = sa.select(*columns).where(events_table.c.job == job, events_table.c.id > after)
        with self._reader.begin() as connection:
            return [JobEvent(*row) for row in connection.execute(chosen.order_by(events_table.c.id))]


def _append(connection: sa.Connection, job: str, event: str, name: str | None, data: dict[str, Any]) -> None:
    highest = sa.select(sa.func.max(events_table.c.id)).where(events_table.c.job == job)
    number = (connection.execute(highest).scalar() or 0) + 1
    connection.execute(events_table.insert().values(job=job, id=number, event=event, name=name, data=data, at=now()))
    if number % 100 == 0:
        old = (events_table.c.job == job, events_table.c.event == "progress", events_table.c.id <= number - KEPT_EVENTS)
        connection.execute(events_table.delete().where(*old))
