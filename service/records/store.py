"""Where explanations are kept: one table beside the registry's, found by id, swept by age."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta

import sqlalchemy as sa

from models.database import in_rfc_3339, metadata, reader_of
from service.errors import UnknownExplanation
from service.records.record import ExplanationRecord
from service.records.table import find_row, insert_group, sweep_rows

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
        insert_group(self._engine, explanations_table, records)

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
        row = find_row(self._reader, wanted)
        if row is None:
            raise UnknownExplanation(explanation, self._retention.days)
        return ExplanationRecord(**row)

    def sweep(self) -> int:
        """Deletes what is older than it is kept, in small transactions; returns how many records."""
        columns = explanations_table.c
        return sweep_rows(self._engine, columns.created_at < self._oldest(), columns.created_at, columns.id)

    def close(self) -> None:
        self._engine.dispose()

    def _oldest(self) -> str:
        return in_rfc_3339(self._clock() - self._retention)
