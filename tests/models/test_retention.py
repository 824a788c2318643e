"""Old versions: which go, which stay and why, and what is left of those that are gone."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from registered import move, register

from models.errors import NothingToRollBackTo, UnknownVersion
from models.registry import Registry, deleted_versions_table
from models.retention import Retention, Verdict, judge_versions


@pytest.fixture
def registry(engine: sa.Engine, tmp_path: Path) -> Registry:
    """Model `m` with versions 1 to 6, whose folders exist."""
    registry = Registry(engine)
    for number in range(1, 7):
        directory = tmp_path / f"version-{number}"
        directory.mkdir()
        (directory / "card.json").write_text("{}")
        register(registry, f"job-{number}", directory=directory)
    return registry


def verdicts(registry: Registry, engine: sa.Engine, *, keep: int, needed: dict | None = None) -> list[Verdict]:
    rollbacks = Retention(engine).rollbacks()
    return judge_versions(registry.models().values(), needed or {}, keep=keep, rollbacks=rollbacks)


def move_through(registry: Registry, *versions: int) -> None:
    """Champion points at one after the other."""
    for version in versions:
        move(registry, "champion", version)


def test_what_an_alias_a_rollback_or_anything_else_needs_stays(registry: Registry, engine: sa.Engine) -> None:
    move_through(registry, 1, 2, 3)
    move(registry, "reviewed", 4)

    found = verdicts(registry, engine, keep=1, needed={("m", 1): "a schedule trains from it", ("other", 4): "no"})

    assert [
        (False, "a schedule trains from it"),
        (False, "a rollback would need it"),
        (False, "champion points at it"),
        (False, "reviewed points at it"),
        (True, "not one of the latest 1, and nothing needs it"),
        (False, "one of the latest 1"),
    ] == [(verdict.delete, verdict.reason) for verdict in found]


def test_a_deleted_version_leaves_a_record_and_its_number_is_not_given_again(
    registry: Registry, engine: sa.Engine, tmp_path: Path
) -> None:
    move(registry, "champion", 2)
    going = verdicts(registry, engine, keep=1)

    deleted = Retention(engine).delete(going, by="test")
    again = Retention(engine).delete(going, by="test")

    assert ([1, 3, 4, 5], []) == ([record.version for record in deleted], again)
    assert [2, 6] == [record.version for record in registry.model("m").versions]
    assert {"version-2", "version-6"} == {path.name for path in tmp_path.iterdir() if path.is_dir()}
    with engine.connect() as connection:
        rows = connection.execute(sa.select(deleted_versions_table).order_by(deleted_versions_table.c.version)).all()
    assert [(1, "job-1", "test", True), (3, "job-3", "test", True)] == [
        (row.version, row.job, row.deleted_by, row.swept) for row in rows[:2]
    ]
    with pytest.raises(UnknownVersion):
        registry.model("m").resolve("3")
    Retention(engine).delete([Verdict(registry.model("m").resolve("6"), True, "by hand")], by="test")
    assert 7 == register(registry, "job-7")


def test_a_version_that_an_alias_moved_to_meanwhile_stays(registry: Registry, engine: sa.Engine) -> None:
    going = verdicts(registry, engine, keep=1)
    move(registry, "champion", 3)

    deleted = Retention(engine).delete(going, by="test")

    assert [1, 2, 4, 5] == [record.version for record in deleted]
    assert 3 == registry.model("m").resolve("champion").version


def test_a_folder_that_a_killed_process_left_is_removed_by_the_next(
    registry: Registry, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("models.retention.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            Retention(engine).delete(verdicts(registry, engine, keep=5), by="test")
    left = (tmp_path / "version-1").exists()

    Retention(engine).sweep()

    assert left
    assert not (tmp_path / "version-1").exists()


def test_rollback_passes_over_versions_that_are_gone(registry: Registry, engine: sa.Engine) -> None:
    move_through(registry, 1, 2, 3, 2)
    gone = [Verdict(registry.model("m").resolve(number), True, "by hand") for number in ("1", "3")]
    Retention(engine).delete(gone, by="test")

    with pytest.raises(NothingToRollBackTo):
        registry.rollback("m", by="anna", reason="")

    assert 2 == registry.model("m").resolve("champion").version
