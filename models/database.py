"""The database that the registry and the job stores share: how it is opened, and how writers take turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from models.sqlite_file import keep_to_file

metadata = sa.MetaData()
"""Every table of this database; each is declared where its subject is."""

WRITERS_LOCK = 0x56495452
"""The key of PostgreSQL's advisory lock by which our writers take turns."""


def open_database(url: str, *, lock_wait_ms: int = 30_000) -> sa.Engine:
    """Opens (and where needed creates) the database, on SQLite in WAL mode, or on PostgreSQL through psycopg.

    Args:
        lock_wait_ms: how long a transaction waits for another writer before it fails.
    """
    address = sa.make_url(url)
    if address.drivername in ("postgres", "postgresql"):
        address = address.set(drivername="postgresql+psycopg")
    on_postgres = address.get_backend_name() == "postgresql"
    options = {"connect_timeout": 5, "options": f"-c lock_timeout={lock_wait_ms}"} if on_postgres else {}
    # Without parameters in its errors: what people sent does not belong in a log.
    engine = sa.create_engine(address, pool_pre_ping=True, hide_parameters=True, connect_args=options)
    if engine.dialect.name == "sqlite":
        keep_to_file(engine)

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            # SQLAlchemy's driver would begin a write transaction late, after reading: two writers then fail instead
            # of waiting. BEGIN IMMEDIATE below takes the lock first.
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout={lock_wait_ms}")
            connection.execute("PRAGMA journal_mode=WAL")

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            reading = connection.get_execution_options().get("read_only", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def reader_of(engine: sa.Engine) -> sa.Engine:
    """The same database, in transactions that only read and wait for no writer."""
    return engine.execution_options(read_only=True)


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction at a time over all processes, so that what it has read still holds when it writes."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS_LOCK)))
        yield connection


def create_tables(engine: sa.Engine) -> None:
    """Creates the tables that are missing. Processes that start together take turns."""
    with writing(engine) as connection:
        metadata.create_all(connection)


def now() -> str:
    """The time as RFC 3339 in UTC with milliseconds."""
    return in_rfc_3339(datetime.now(UTC))


def in_rfc_3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
