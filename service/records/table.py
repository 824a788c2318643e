"""What every table of records does: a group is inserted in one transaction, a row found, old rows swept bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite

from models.database import open_database
from models.public import without_folders
from service.errors import RecordsUnavailable

LOCK_WAIT_MS = 2000
SWEEP_BATCH_ROWS = 500
"""Records deleted in one transaction: a writer that waits for it waits for milliseconds."""

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


def insert_group(engine: sa.Engine, table: sa.Table, records: Sequence[Any]) -> None:
    """Keeps records (dataclasses whose fields are columns) in one transaction.

    One that is there already stays: a group may be written twice, since the first attempt may have been committed just
    as the connection was lost.
    """
    statement, names = _insert_statement(engine.dialect, table)
    if names is None:
        columns = [field.name for field in fields(records[0])]
        values: Any = [{name: getattr(record, name) for name in columns} for record in records]
    else:
        values = [*map(attrgetter(*names), records)]
    with engine.begin() as connection:
        # 7 us for a record, most of them SQLite's and outside the interpreter's lock, which the event loop needs;
        # with SQLAlchemy's work on each value and the copies of `asdict` they were 25.
        connection.exec_driver_sql(statement, values)


@cache
def _insert_statement(dialect: sa.Dialect, table: sa.Table) -> tuple[str, Sequence[str] | None]:
    """The statement in the words of a driver, and the names of its parameters in order; None where it names them."""
    compiled = _INSERTS[dialect.name](table).on_conflict_do_nothing().compile(dialect=dialect)
    return str(compiled), compiled.positiontup


def find_row(reader: sa.Engine, wanted: sa.Select[Any]) -> sa.RowMapping | None:
    """The one row of a selection, or None. Raises `RecordsUnavailable` when the database cannot be read."""
    try:
        with reader.begin() as connection:
            return connection.execute(wanted).mappings().one_or_none()
    except exc.DBAPIError as error:
        raise RecordsUnavailable(first_line(error)) from error


def sweep_rows(engine: sa.Engine, old: sa.ColumnElement[bool], order: sa.Column[Any], key: sa.Column[Any]) -> int:
    """Deletes what is old, the oldest first, in small transactions; returns how many rows.

    Several processes may sweep at once: what one has deleted, another does not find.

    Args:
        old: which rows may go.
        order: the column that says how old a row is.
        key: the column that names it.
    """
    some = sa.select(key).where(old).order_by(order).limit(SWEEP_BATCH_ROWS)
    delete = sa.delete(key.table).where(key.in_(some.scalar_subquery()))
    swept = 0
    while True:
        with engine.begin() as connection:
            count = connection.execute(delete).rowcount
        swept += count
        if count == 0:
            return swept


def first_line(error: exc.DBAPIError) -> str:
    """What a database says is wrong, in one line: not where its socket or its file is."""
    return without_folders(str(error.orig).strip().partition("\n")[0])
