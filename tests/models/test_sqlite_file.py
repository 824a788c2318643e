"""A SQLite file that vanishes is an error, never a new empty database."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from models.database import open_database
from models.registry import Registry


@pytest.mark.parametrize("name", ["vitrine.sqlite", "a b?c#d%25é.sqlite"])
def test_a_missing_file_is_created_once_under_its_own_name(tmp_path: Path, name: str) -> None:
    engine = engine_of(tmp_path / name)

    register(Registry(engine))
    engine.dispose()

    assert (tmp_path / name).stat().st_size > 0
    assert len(Registry(engine_of(tmp_path / name)).models()) == 1


def test_a_vanished_file_fails_readers_and_writers_and_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "vitrine.sqlite"
    engine = engine_of(path)
    registry = Registry(engine)
    registry.models()
    path.unlink()

    for work in (registry.models, lambda: register(registry)):
        with pytest.raises(OperationalError):
            work()

    assert not path.exists()
    engine.dispose()


def test_a_replaced_file_is_the_one_that_is_read_from_then_on(tmp_path: Path) -> None:
    path, backup = tmp_path / "vitrine.sqlite", tmp_path / "backup.sqlite"
    restored = engine_of(backup)
    register(Registry(restored))
    restored.dispose()
    engine = engine_of(path)
    registry = Registry(engine)
    before = registry.models()

    # Without its write-ahead log, as SQLite asks of whoever restores a backup.
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    backup.rename(path)
    after = registry.models()

    assert (list(before), list(after)) == ([], ["m"])
    engine.dispose()


def test_a_database_in_memory_has_no_file_to_keep_to() -> None:
    with open_database("sqlite://").connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def engine_of(path: Path) -> sa.Engine:
    return open_database(sa.URL.create("sqlite", database=str(path)).render_as_string())


def register(registry: Registry) -> None:
    registry.register(model="m", job="job-1", directory="/versions/m/job-1", task="regression", gates=[])
