"""Explanation jobs in the database: who runs one, and what becomes of it, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from postgres import Postgres

from models.database import create_tables, in_rfc_3339, open_database
from service.errors import ExplanationJobStateConflict, RecordsUnavailable, TooManyExplanationJobs
from service.identifiers import new_id
from service.records.jobs import MAX_UNFINISHED, ExplanationJob, ExplanationJobStore

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def store(database_url: str) -> Iterator[ExplanationJobStore]:
    engine = open_database(database_url)
    create_tables(engine)
    yield ExplanationJobStore(engine, retention=WEEK, clock=lambda: NOON)
    engine.dispose()


def job(*, age: timedelta = timedelta(0)) -> ExplanationJob:
    created_at = in_rfc_3339(NOON - age)
    return ExplanationJob(new_id(), created_at, "m", 1, "rows", '{"seed": 0}', b"rows", total_rows=3)


def test_the_oldest_job_is_claimed_by_one_owner_alone(store: ExplanationJobStore) -> None:
    jobs = [job(age=timedelta(seconds=1)), job()]
    for each in reversed(jobs):
        store.submit(each)

    claims = [store.claim(owner, set()) for owner in ("a", "b", "c")]

    first, second, third = claims
    assert first == replace(jobs[0], status="running", owner="a", attempts=1)
    assert second is not None
    assert (jobs[1].id, "b") == (second.id, second.owner)
    assert third is None


def test_a_job_goes_from_a_silent_owner_to_another_who_alone_may_end_it(store: ExplanationJobStore) -> None:
    store.submit(job())
    held = store.claim("silent", set())
    assert held is not None

    taken = store.claim("other", {"silent"})

    assert taken is not None
    assert (held.id, "other", 2) == (taken.id, taken.owner, taken.attempts)
    assert not store.beat(held.id, "silent", done_rows=1, total_rows=3)
    assert not store.finish(held.id, "silent", "succeeded", document="{}")
    assert store.finish(held.id, "other", "succeeded", document='{"by": "other"}', arrays=b"arrays")
    found = store.get(held.id)
    assert found is not None
    assert ("succeeded", '{"by": "other"}') == (found.status, found.document)
    assert store.arrays(held.id) == b"arrays"


def test_a_beat_changes_the_pulse_and_says_how_far_it_is(store: ExplanationJobStore) -> None:
    store.submit(job())
    held = store.claim("a", set())
    assert held is not None
    before = store.pulses()

    assert store.beat(held.id, "a", done_rows=2, total_rows=3)

    found = store.get(held.id)
    assert found is not None
    assert {"rows": 2, "total_rows": 3} == found.progress["progress"]
    assert before["a"] != store.pulses()["a"]


def test_an_owner_that_ends_in_good_order_gives_its_job_back_without_using_up_an_attempt(
    store: ExplanationJobStore,
) -> None:
    store.submit(job())
    store.claim("a", set())

    store.release("a")
    again = store.claim("b", set())

    assert again is not None
    assert ("b", 1) == (again.owner, again.attempts)


def test_a_cancelled_job_is_nobody_s_and_cannot_be_cancelled_twice(store: ExplanationJobStore) -> None:
    store.submit(job())
    held = store.claim("a", set())
    assert held is not None

    assert store.cancel(held.id)

    assert not store.beat(held.id, "a", done_rows=1, total_rows=3)
    assert not store.queued()
    with pytest.raises(ExplanationJobStateConflict, match="is cancelled"):
        store.cancel(held.id)
    assert not store.cancel("nobody")


def test_rows_and_what_they_said_in_strings_are_kept_only_until_a_job_has_ended(store: ExplanationJobStore) -> None:
    asked = '{"seed": 0, "given": [{"name": "Ada"}]}'
    jobs = [replace(job(age=timedelta(seconds=1)), request=asked), replace(job(), request=asked)]
    for each in jobs:
        store.submit(each)
    claimed = store.claim("a", set())
    assert claimed is not None
    assert (b"rows", asked) == (claimed.inputs, claimed.request)

    store.finish(claimed.id, "a", "failed", problem="{}")
    store.cancel(jobs[1].id)

    assert store.claim("b", {"a"}) is None
    import sqlalchemy as sa

    from service.records.jobs import explanation_jobs_table

    with store._reader.begin() as connection:
        columns = explanation_jobs_table.c
        kept = connection.execute(sa.select(columns.inputs, columns.request)).all()
    assert [(None, "{}"), (None, "{}")] == [tuple(row) for row in kept]


def test_more_jobs_than_may_wait_are_refused(store: ExplanationJobStore) -> None:
    for _ in range(MAX_UNFINISHED):
        store.submit(job())

    with pytest.raises(TooManyExplanationJobs, match="100 explanations are waiting"):
        store.submit(job())


def test_finished_jobs_are_swept_when_their_time_has_come_and_unfinished_ones_never(
    store: ExplanationJobStore,
) -> None:
    old, fresh, waiting = job(age=WEEK + timedelta(seconds=1)), job(age=WEEK), job(age=2 * WEEK)
    for each in (old, fresh):
        store.submit(each)
        store.cancel(each.id)
    store.submit(waiting)

    assert 1 == store.sweep()

    assert store.get(fresh.id) is not None
    assert store.queued()


def test_of_processes_that_claim_at_the_same_time_each_job_has_one(database_url: str) -> None:
    """Each with an engine of its own, as processes have: reading the oldest and taking it must be one thing."""
    engines = [open_database(database_url) for _ in range(4)]
    create_tables(engines[0])
    stores = [ExplanationJobStore(engine, retention=WEEK, clock=lambda: NOON) for engine in engines]
    jobs = [job() for _ in range(12)]
    for each in jobs:
        stores[0].submit(each)
    together = Barrier(len(stores))

    def claim_all(number: int) -> list[str]:
        together.wait(120)
        claims = iter(lambda: stores[number].claim(f"owner {number}", set()), None)
        return [each.id for each in claims]

    with ThreadPoolExecutor(len(stores)) as pool:
        claimed = [name for names in pool.map(claim_all, range(len(stores))) for name in names]

    for engine in engines:
        engine.dispose()
    assert sorted(each.id for each in jobs) == sorted(claimed)


def test_a_database_that_is_away_is_said_to_be(postgres: Postgres) -> None:
    engine = open_database(postgres.new_database())
    create_tables(engine)
    store = ExplanationJobStore(engine, retention=WEEK, clock=lambda: NOON)
    held = job()
    store.submit(held)

    postgres.stop()
    try:
        for call in (
            lambda: store.submit(job()),
            lambda: store.get(held.id),
            lambda: store.arrays(held.id),
            lambda: store.cancel(held.id),
        ):
            with pytest.raises(RecordsUnavailable):
                call()
    finally:
        postgres.start()

    # What was accepted before is there when the database is back.
    found = store.get(held.id)
    engine.dispose()
    assert found == replace(held, inputs=None)
