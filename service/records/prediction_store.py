"""Where predictions are kept: one table beside the registry's, found by id, swept by age and by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta

import sqlalchemy as sa

from models.database import metadata, reader_of
from service.errors import UnknownPrediction
from service.identifiers import first_id_at, is_id
from service.records.predictions import PredictionRecord
from service.records.table import find_row, insert_group, sweep_rows

predictions_table = sa.Table(
    "predictions",
    metadata,
    # Ids sort by time: rows come in the order of the index, and the oldest are found by it.
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("request", sa.Text),
    sa.Column("redacted", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    # Which versions are needed is asked of the index, not of every row.
    sa.Index("predictions_of_version", "model", "version"),
)
_id = predictions_table.c.id


class PredictionStore:
    """Records of predictions, for as long as they are kept and as many as are.

    Its table is created with all others of the database, by `create_tables`.

    Args:
        max_records: when there are more, the oldest go with the next sweep.
        taken: which predictions this server records, in words.
        clock: the time in UTC.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        retention: timedelta,
        max_records: int,
        taken: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        self._retention, self._max_records, self._taken, self._clock = retention, max_records, taken, clock

    def insert(self, records: Sequence[PredictionRecord]) -> None:
        """Keeps records in one transaction. One that is there already stays: a group may be written twice."""
        insert_group(self._engine, predictions_table, records)

    def get(self, prediction: str) -> PredictionRecord:
        """The record of a prediction.

        Raises:
            UnknownPrediction: when there is none, or none any more.
            RecordsUnavailable: when the database cannot be read.
        """
        columns = [predictions_table.c[field.name] for field in fields(PredictionRecord)]
        wanted = sa.select(*columns).where(_id == prediction, _id >= self._oldest())
        # What is no id of ours would not be text to every database.
        row = find_row(self._reader, wanted) if is_id(prediction) else None
        if row is None:
            raise UnknownPrediction(prediction, self._taken, self._retention.days, self._max_records)
        return PredictionRecord(**row)

    def sweep(self) -> int:
        """Deletes what is older than it is kept and what is too many, in small transactions; returns how many."""
        oldest = self._oldest()
        newest_to_go = sa.select(_id).order_by(_id.desc()).offset(self._max_records).limit(1)
        with self._reader.begin() as connection:
            last = connection.execute(newest_to_go).scalar()
        old = _id < oldest if last is None else (_id < oldest) | (_id <= last)
        return sweep_rows(self._engine, old, _id, _id)

    def _oldest(self) -> str:
        return first_id_at(self._clock() - self._retention)
