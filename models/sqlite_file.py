"""A SQLite file stays the one that was opened: when it has vanished, that is an error, never a new empty database."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

_IDENTITY = "vitrine_file"


def keep_to_file(engine: sa.Engine) -> None:
    """Creates the file of an engine where it is missing, and from then on opens only what exists.

    A connection that is still open to a file that was deleted or replaced would go on reading and writing a file that
    nobody else sees: it is given up when it is next taken from the pool.
    """
    database = engine.url.database
    if not database or database == ":memory:" or database.startswith("file:"):
        return
    path = Path(database).absolute()
    path.touch()

    @event.listens_for(engine, "do_connect")
    def open_existing(_dialect: Any, _record: Any, arguments: list[Any], keywords: dict[str, Any]) -> None:
        arguments[:] = [f"file:{quote(str(path))}?mode=rw"]
        keywords["uri"] = True

    @event.listens_for(engine, "connect")
    def remember(_connection: Any, record: Any) -> None:
        record.info[_IDENTITY] = _identity(path)

    @event.listens_for(engine, "checkout")
    def compare(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info.get(_IDENTITY) != _identity(path):
            raise DisconnectionError(f"{path} is not the file that was opened.")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
