"""What goes on beside the requests: it survives what nobody has foreseen, and is heard of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from models.database import create_tables, open_database
from models.errors import UnknownModel
from service.background import kept_up
from service.identifiers import created_at, new_id
from service.jobs.membership import Membership, Silence
from service.jobs.worker import Heart
from service.records.job_runner import ExplanationJobRunner
from service.records.jobs import ExplanationJob, ExplanationJobStore
from service.records.keeping import Keeping


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}")
    create_tables(engine)
    yield engine
    engine.dispose()


def test_a_work_that_fails_unforeseen_is_begun_again_and_said(caplog: pytest.LogCaptureFixture) -> None:
    begun = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise AttributeError("half a module")

    with caplog.at_level(logging.ERROR, "vitrine.background"):
        asyncio.run(asyncio.wait_for(kept_up(work, "sweeping", first_pause_seconds=0.001), 60))

    assert [0, 1, 2] == begun
    assert ["sweeping: failed, and is begun again in 0.001 s"] == caplog.messages[:1]
    assert "half a module" in caplog.text


def test_a_work_that_has_gone_on_for_long_is_begun_again_as_soon_as_at_first(caplog: pytest.LogCaptureFixture) -> None:
    lasted, times = [0, 0, 61, 0], [0.0]

    async def work() -> None:
        if not lasted:
            return
        times[0] += lasted.pop(0)
        raise AttributeError("half a module")

    with caplog.at_level(logging.ERROR, "vitrine.background"):
        asyncio.run(kept_up(work, "sweeping", first_pause_seconds=0.001, clock=lambda: times[0]))

    pauses = [message.split()[-2] for message in caplog.messages]
    assert ["0.001", "0.002", "0.001", "0.002"] == pauses


def test_a_work_that_is_cancelled_is_not_begun_again() -> None:
    begun = []

    async def work() -> None:
        begun.append(None)
        await asyncio.sleep(60)

    async def test() -> None:
        task = asyncio.create_task(kept_up(work, "sweeping"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())

    assert [None] == begun


def test_a_job_that_its_runner_has_lost_hold_of_is_begun_again(engine: sa.Engine) -> None:
    store = ExplanationJobStore(engine, retention=timedelta(days=1), clock=lambda: datetime.now(UTC))
    job = new_id()
    store.submit(ExplanationJob(job, created_at(job), "m", 1, "rows", "{}", b"", total_rows=1))
    held = store.claim("me", set())
    assert held is not None

    async def resolve(model: str, _version: str) -> None:
        raise UnknownModel(model, [])

    nothing = cast("Any", SimpleNamespace(resolve=resolve))
    runner = ExplanationJobRunner(
        store, nothing, nothing, nothing, nothing, owner="me", keeping=Keeping(True, frozenset()), note=lambda *_: None
    )

    async def test() -> ExplanationJob:
        running = asyncio.create_task(runner.run_for_ever())
        while (found := store.get(job)) is None or found.status == "running":
            await asyncio.sleep(0.01)
        running.cancel()
        return found

    found = asyncio.run(asyncio.wait_for(test(), 60))

    # This one fails, for its model is not there: it was begun.
    assert ("failed", 2) == (found.status, found.attempts)
    assert "unknown-model" in (found.problem or "")


def test_a_heart_beats_on_whatever_a_beat_meets(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    membership, stopped = Membership(engine, "w"), Event()
    membership.join()
    heart = Heart(membership, Silence(10), stopped)
    beats = []

    def beat() -> bool:
        beats.append(None)
        if len(beats) < 3:
            raise RuntimeError("unforeseen")
        stopped.set()
        return False

    monkeypatch.setattr(membership, "beat", beat)
    heart.run(0.001)

    assert 3 == len(beats)
