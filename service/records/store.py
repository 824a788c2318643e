"""Where explanations are kept: one table beside the registry's, found by id, swept by age."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite

from models.database import in_rfc_3339, metadata, open_database, reader_of
from service.errors import RecordsUnavailable, UnknownExplanation
from service.records.record import ExplanationRecord

LOCK_WAIT_MS = 2000
SWEEP_BATCH_ROWS = 500
"""Records deleted in one transaction: a writer that waits for it waits for milliseconds."""

explanations_table = sa.Table(
    "explanations",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("created_at", sa.String, nullable=False, index=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("inputs", sa.LargeBinary),
    sa.Column("document", sa.Text, nullable=False),
)

_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def open_records_database(url: str) -> sa.Engine:
    """Connections to the registry's database for records: less patient than others, and quicker.

    An explanation is rather answered unrecorded than late. On SQLite a commit is handed to the operating system without
    waiting for the disk (1.7 to 3 ms become 0.3): it outlives the death of this process, though not a power cut.
    """
    engine = open_database(url, lock_wait_ms=LOCK_WAIT_MS)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA synchronous=NORMAL")

    return engine


class ExplanationStore:
    """Records of explanations, for as long as they are kept.

    Its table is created with all others of the database, by `create_tables`.

    Args:
        clock: the time in UTC.
    """

    def __init__(self, engine: sa.Engine, *, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        self._retention, self._clock = retention, clock

    def insert(self, records: Sequence[ExplanationRecord]) -> None:
        """Keeps records in one transaction. One that is there already stays: a group may be written twice."""
        # The first attempt may have been committed just as the connection was lost.
        insert = _INSERTS[self._engine.dialect.name](explanations_table).on_conflict_do_nothing()
        with self._engine.begin() as connection:
            connection.execute(insert, [asdict(record) for record in records])

    def get(self, explanation: str) -> ExplanationRecord:
        """The record of an explanation.

        Raises:
            UnknownExplanation: when there is none, or none any more.
            RecordsUnavailable: when the database cannot be read.
        """
        columns = [explanations_table.c[field.name] for field in fields(ExplanationRecord)]
        wanted = sa.select(*columns).where(
            explanations_table.c.id == explanation, explanations_table.c.created_at >= self._oldest()
        )
        try:
            with self._reader.begin() as connection:
                row = connection.execute(wanted).mappings().one_or_none()
        except exc.DBAPIError as error:
            raise RecordsUnavailable(first_line(error)) from error
        if row is None:
            raise UnknownExplanation(explanation, self._retention.days)
        return ExplanationRecord(**row)

    def sweep(self) -> int:
        """Deletes what is older than it is kept, in small transactions; returns how many records.

        Several processes may sweep at once: what one has deleted, another does not find.
        """
        old = (
            sa.select(explanations_table.c.id)
            .where(explanations_table.c.created_at < self._oldest())
            .order_by(explanations_table.c.created_at)
            .limit(SWEEP_BATCH_ROWS)
        )
        delete = explanations_table.delete().where(explanations_table.c.id.in_(old.scalar_subquery()))
        swept = 0
        while True:
            with self._engine.begin() as connection:
                count = connection.execute(delete).rowcount
            swept += count
            if count == 0:
                return swept

    def close(self) -> None:
        self._engine.dispose()

    def _oldest(self) -> str:
        return in_rfc_3339(self._clock() - self._retention)


def first_line(error: exc.DBAPIError) -> str:
    """What a database says is wrong, in one line."""
    return str(error.orig).strip().partition("\n")[0]
