"""Records of explanations: kept and swept, on each database; written in groups, whatever the database does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
from disks import small_disk
from postgres import Postgres
from support import locked_by_another_process, mostly_under, wait_for

from models.database import create_tables, in_rfc_3339, open_database
from service.errors import RecordsUnavailable, UnknownExplanation
from service.identifiers import new_id
from service.records.record import ExplanationRecord
from service.records.store import ExplanationStore
from service.records.table import SWEEP_BATCH_ROWS
from service.records.writer import QUEUE_BYTES, RecordWriter

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEEK = timedelta(days=7)

Opener = Callable[..., ExplanationStore]


def record(*, age: timedelta = timedelta(0), n_bytes: int = 4) -> ExplanationRecord:
    return ExplanationRecord(
        id=new_id(),
        created_at=in_rfc_3339(NOON - age),
        model="m",
        version=1,
        request='{"seed": 0}',
        run="{}",
        inputs=bytes(range(256))[:n_bytes] or None,
        document='{"unit": "\u00b5g \u2713"}' + " " * max(0, n_bytes - 256),
    )


@pytest.fixture
def open_store() -> Iterator[Opener]:
    """Opens stores, and closes them when the test ends."""
    opened: list[ExplanationStore] = []

    def open_one(
        url: str, *, lock_wait_ms: int = 2000, clock: Callable[[], datetime] = lambda: NOON
    ) -> ExplanationStore:
        engine = open_database(url, lock_wait_ms=lock_wait_ms)
        opened.append(ExplanationStore(engine, retention=WEEK, clock=clock))
        create_tables(engine)
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'vitrine.sqlite'}"


@contextmanager
def running(writer: RecordWriter) -> Iterator[RecordWriter]:
    writer.start()
    try:
        yield writer
    finally:
        writer.close(seconds=10)


def test_a_record_is_found_as_it_was_kept(open_store: Opener, database_url: str) -> None:
    store = open_store(database_url)
    with_inputs, without = record(n_bytes=256), record(n_bytes=0)

    store.insert([with_inputs, without])

    assert [with_inputs, without] == [store.get(with_inputs.id), store.get(without.id)]


def test_a_group_whose_commit_was_not_heard_of_can_be_written_again(open_store: Opener, database_url: str) -> None:
    store = open_store(database_url)
    group = [record(), record()]

    store.insert(group[:1])
    store.insert(group)

    assert group == [store.get(kept.id) for kept in group]


def test_what_is_older_than_it_is_kept_is_unknown_before_and_after_the_sweep(
    open_store: Opener, database_url: str
) -> None:
    times = [NOON]
    store = open_store(database_url, clock=lambda: times[0])
    young, old = record(age=WEEK - timedelta(seconds=1)), record(age=WEEK + timedelta(seconds=1))
    store.insert([young, old])

    with pytest.raises(UnknownExplanation, match="kept for 7 days"):
        store.get(old.id)
    first = store.sweep()
    remaining = store.get(young.id)
    times[0] = NOON + timedelta(seconds=2)
    second = store.sweep()

    assert (first, second) == (1, 1)
    assert remaining == young


def test_many_replicas_sweep_at_once_without_harm(open_store: Opener, database_url: str) -> None:
    stores = [open_store(database_url) for _ in range(3)]
    young = record()
    old = [record(age=WEEK + timedelta(minutes=i + 1)) for i in range(SWEEP_BATCH_ROWS + 50)]
    stores[0].insert([*old, young])

    with ThreadPoolExecutor(3) as threads:
        swept = list(threads.map(lambda store: store.sweep(), stores))

    assert sum(swept) == len(old)
    assert young == stores[0].get(young.id)


def test_a_database_that_cannot_be_read_is_said_to_be(open_store: Opener, tmp_path: Path) -> None:
    store = open_store(sqlite_url(tmp_path))
    store.close()
    (tmp_path / "vitrine.sqlite").write_bytes(b"no database" * 1000)

    with pytest.raises(RecordsUnavailable, match="not a database"):
        store.get(new_id())


def test_records_that_wait_together_share_a_commit(open_store: Opener, tmp_path: Path) -> None:
    store, began, may_commit, groups = open_store(sqlite_url(tmp_path)), Event(), Event(), []

    def insert(records: Sequence[ExplanationRecord]) -> None:
        groups.append(len(records))
        began.set()
        assert may_commit.wait(120)
        store.insert(records)

    with running(RecordWriter(insert)) as writer:
        first = writer.submit(record())
        assert began.wait(120)
        others = [writer.submit(record()) for _ in range(40)]
        may_commit.set()
        kept = [future.result(120) for future in [first, *others]]

    assert all(kept)
    assert groups == [1, 40]


def test_a_locked_database_holds_up_one_group_and_is_written_to_when_it_is_free(
    open_store: Opener, tmp_path: Path
) -> None:
    store = open_store(sqlite_url(tmp_path), lock_wait_ms=1000)
    during: list[ExplanationRecord] = []

    def refused(writer: RecordWriter) -> float:
        during.append(record())
        started = monotonic()
        assert not writer.submit(during[-1]).result(120)
        return monotonic() - started

    with running(RecordWriter(store.insert)) as writer:
        with locked_by_another_process(tmp_path / "vitrine.sqlite"):
            refused(writer)
            problem = writer.problem
            none_waits = mostly_under(0.5, lambda: refused(writer))  # half of what waiting for the lock takes
        wait_for(lambda: writer.problem is None)
        after = writer.submit(record()).result(120)

    assert (problem, none_waits, after) == ("database is locked", True, True)
    # What could not be promised was kept all the same.
    assert during == [store.get(kept.id) for kept in during]


def test_a_database_server_that_is_gone_for_a_while_is_written_to_when_it_is_back(
    open_store: Opener, postgres: Postgres
) -> None:
    store = open_store(postgres.new_database())
    during = [record(), record()]

    with running(RecordWriter(store.insert)) as writer:
        before = writer.submit(record()).result(120)
        postgres.stop()
        try:
            gone = [writer.submit(one).result(120) for one in during]
            with pytest.raises(RecordsUnavailable):
                store.get(during[0].id)
        finally:
            postgres.start()
        wait_for(lambda: writer.problem is None)
        after = writer.submit(record()).result(120)

    assert (before, gone, after) == (True, [False, False], True)
    assert during == [store.get(kept.id) for kept in during]


def test_a_full_disk_is_said_and_recording_goes_on_when_there_is_room(open_store: Opener, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2**20) as disk:
        store = open_store(sqlite_url(disk))
        filler = disk / "filler"
        with running(RecordWriter(store.insert)) as writer:
            before = writer.submit(record()).result(120)
            filler.write_bytes(bytes(disk_free(disk)))
            full = writer.submit(record(n_bytes=50_000)).result(120)
            problem = writer.problem
            filler.unlink()
            wait_for(lambda: writer.problem is None)
            after = writer.submit(record(n_bytes=50_000)).result(120)
        store.close()

    assert (before, full, after) == (True, False, True)
    assert problem == "database or disk is full"


def disk_free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def test_a_record_that_no_database_takes_does_not_hold_up_the_others(open_store: Opener, tmp_path: Path) -> None:
    store = open_store(sqlite_url(tmp_path))
    impossible: Any = None

    good = record()
    with running(RecordWriter(store.insert)) as writer:
        refused = writer.submit(replace(record(), version=impossible)).result(120)
        problem = writer.problem
        writer.submit(good)
        wait_for(lambda: writer.problem is None)

    assert not refused
    assert "NOT NULL" in str(problem)
    assert good == store.get(good.id)


def test_a_full_queue_refuses_at_once(open_store: Opener, tmp_path: Path) -> None:
    store, began, may_commit = open_store(sqlite_url(tmp_path)), Event(), Event()

    def insert(records: Sequence[ExplanationRecord]) -> None:
        began.set()
        assert may_commit.wait(120)
        store.insert(records)

    large = replace(record(), document=" " * (QUEUE_BYTES // 2 - 1000))
    with running(RecordWriter(insert)) as writer:
        first = writer.submit(record())
        assert began.wait(120)
        waiting = [writer.submit(large) for _ in range(2)]
        refused = writer.submit(replace(large, id=new_id())).result(0)
        problem = writer.problem
        may_commit.set()
        kept = [future.result(120) for future in [first, *waiting]]
        wait_for(lambda: writer.problem is None)

    assert not refused
    assert "queue" in str(problem)
    assert all(kept)


def test_closing_writes_what_waits(open_store: Opener, tmp_path: Path) -> None:
    store = open_store(sqlite_url(tmp_path))
    records = [record() for _ in range(20)]
    with running(RecordWriter(store.insert)) as writer:
        for one in records:
            writer.submit(one)

    assert records == [store.get(one.id) for one in records]
