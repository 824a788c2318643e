"""Records of predictions: noted without waiting, written in batches whatever the database does, kept and swept."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import orjson
import pytest
from postgres import Postgres
from support import locked_by_another_process, wait_for

from models.database import create_tables, open_database
from models.registry import Registry
from models.signature import Feature, Signature
from service.errors import InputsNotKept, InputsRedacted, UnknownPrediction
from service.identifiers import first_id_at, new_id
from service.logs import add_to_context
from service.records import prediction_recorder
from service.records.keeping import Keeping, redacted_rows
from service.records.prediction_recorder import BATCH_RECORDS, PredictionRecorder
from service.records.prediction_store import PredictionStore
from service.records.predictions import NoteEncoder, PredictionNote

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
SENT = b'{"model":"m", "inputs":[{"\xc2\xb5": 1.50}]}'
ANSWER = b'{"id":"?","model":"m","version":3,"predictions":[{"value":151.2}]}'


class Scene:
    """A database with its registry, and what writes predictions into it."""

    def __init__(self, url: str, *, lock_wait_ms: int = 2000, keeping: Keeping | None = None, most: int = 100) -> None:
        self.now = NOON
        self.engine = open_database(url, lock_wait_ms=lock_wait_ms)
        self.registry = Registry(self.engine)
        self.store = PredictionStore(self.engine, retention=WEEK, max_records=most, taken="all", clock=lambda: self.now)
        self.encoder = NoteEncoder(keeping or Keeping(), self.registry)
        create_tables(self.engine)

    def insert(self, notes: Sequence[PredictionNote]) -> None:
        self.store.insert(self.encoder.records(notes))

    def keep(self, *ages: timedelta) -> list[str]:
        """Records predictions of some ages; returns their ids."""
        notes = [note(first_id_at(NOON - age)[:10] + new_id()[10:]) for age in ages]
        self.insert(notes)
        return [each.id for each in notes]

    def knows(self, prediction: str) -> bool:
        try:
            return self.store.get(prediction).id == prediction
        except UnknownPrediction:
            return False


def note(prediction: str, *, sent: Any = SENT, version: int = 3) -> PredictionNote:
    return PredictionNote(prediction, "m", version, sent, ANSWER)


OpenScene = Callable[..., Scene]


@pytest.fixture
def open_scene() -> Iterator[OpenScene]:
    opened: list[Scene] = []

    def open_one(url: str, **options: Any) -> Scene:
        opened.append(Scene(url, **options))
        return opened[-1]

    yield open_one
    for scene in opened:
        scene.engine.dispose()


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'vitrine.sqlite'}"


@contextmanager
def running(recorder: PredictionRecorder) -> Iterator[PredictionRecorder]:
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.close(seconds=10)


def take(recorder: PredictionRecorder, count: int, *, sent: bytes = SENT) -> list[str]:
    """Notes some predictions; returns their ids."""
    ids = [new_id() for _ in range(count)]
    for each in ids:
        recorder.note(each, "m", 3, sent, ANSWER)
    return ids


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_a_prediction_is_found_as_it_was_asked_and_answered(open_scene: OpenScene, database_url: str) -> None:
    scene = open_scene(database_url)
    (prediction,) = scene.keep(timedelta(seconds=1))

    document = scene.store.get(prediction).document

    assert document == {
        "id": prediction,
        "created_at": "2026-11-21T11:59:59.000Z",
        "model": "m",
        "version": 3,
        "inputs": [{"\u00b5": 1.5}],
        "redacted": [],
        "predictions": [{"value": 151.2}],
    }


def test_a_batch_whose_commit_was_not_heard_of_can_be_written_again(open_scene: OpenScene, database_url: str) -> None:
    scene = open_scene(database_url)
    batch = [note(new_id()), note(new_id())]
    scene.now = datetime.now(UTC)

    scene.insert(batch[:1])
    scene.insert(batch)

    assert all(scene.knows(each.id) for each in batch)


def test_rows_that_came_as_numbers_are_kept_to_the_last_bit(open_scene: OpenScene, tmp_path: Path) -> None:
    scene = open_scene(sqlite_url(tmp_path))
    scene.now = datetime.now(UTC)
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) ** 9
    rows[0, 0] = np.nan
    taken = note(new_id(), sent=rows)

    scene.insert([taken])
    kept = scene.store.get(taken.id).inputs("explained")

    assert kept[0][0] is None
    np.testing.assert_array_equal(rows, np.array(kept, dtype=np.float32))


def test_without_inputs_the_answer_alone_is_kept(open_scene: OpenScene, tmp_path: Path) -> None:
    scene = open_scene(sqlite_url(tmp_path), keeping=Keeping(inputs=False))
    (prediction,) = scene.keep(timedelta(0))

    record = scene.store.get(prediction)

    assert record.document["inputs"] is None
    with pytest.raises(InputsNotKept, match=f"{prediction}' cannot be explained.*VITRINE_RECORD_INPUTS"):
        record.inputs("explained")


@pytest.mark.parametrize("prediction", ["", "x", "01KAJ5ZV3M9W8W4D9J7YQ2T6RB", "\x00" * 26, "../.."])
def test_what_is_not_there_is_unknown(open_scene: OpenScene, database_url: str, prediction: str) -> None:
    scene = open_scene(database_url)

    with pytest.raises(UnknownPrediction, match=r"records all predictions .*kept for 7 days, the latest 100"):
        scene.store.get(prediction)


# -- redaction -------------------------------------------------------------------------------------------------------

BMI = Keeping(redacted=frozenset({"bmi", "ssn", "scan"}))


def columns(*names: str) -> Signature:
    return Signature(tuple(Feature(name, "numeric", (), (0, 1)) for name in names), "regression", "y")


def only(kind: Any, shape: tuple[int, ...], name: str = "scan") -> Signature:
    return Signature((Feature(name, kind, shape, (0, 1)),), "regression", "y")


@pytest.mark.parametrize(
    ("inputs", "signature", "kept"),
    [
        ([{"age": 1, "bmi": 2, "ssn": "x"}, {"age": 3, "bmi": 4}], columns("age", "bmi"), [{"age": 1}, {"age": 3}]),
        ([[1, 2], {"age": 3, "bmi": 4}], columns("age", "bmi"), [[1, None], {"age": 3}]),
        ([[1, 2]], columns("age", "sex"), [[1, 2]]),
        ([{"age": 1, "sex": 2, "ssn": "x"}], columns("age", "sex"), [{"age": 1, "sex": 2}]),
        ([5], columns("bmi"), None),
        ([[5]], columns("bmi"), [[None]]),
        ([[[0, 1]]], only("image", (1, 2, 1)), None),
        ([{"scan": [[0, 1]]}], only("image", (1, 2, 1)), [{}]),
        ([{"scan": {"b64": "iVBO"}}], only("image", (1, 2, 1)), [{}]),
        ([{"b64": "iVBO"}], only("image", (1, 2, 1)), None),
        ([{"b64": "iVBO"}], only("image", (1, 2, 1), "other"), [{"b64": "iVBO"}]),
        ([[[0, 1]]], only("image", (1, 2, 1), "other"), [[[0, 1]]]),
        (["a b"], only("text", (4,)), None),
    ],
)
def test_redaction_leaves_no_value_of_what_it_names(inputs: list[Any], signature: Signature, kept: Any) -> None:
    assert kept == redacted_rows(orjson.dumps({"inputs": inputs}), BMI, signature)


def test_a_body_in_another_form_is_not_kept_where_something_is_redacted() -> None:
    assert redacted_rows(b'{"columns": {"bmi": [1]}}', BMI, columns("bmi")) is None


def test_nothing_is_kept_of_the_inputs_of_a_version_that_is_gone_when_its_features_are_asked_for(
    open_scene: OpenScene, tmp_path: Path
) -> None:
    scene = open_scene(sqlite_url(tmp_path), keeping=BMI)
    (prediction,) = scene.keep(timedelta(0))

    assert scene.store.get(prediction).request is None


def test_what_was_redacted_is_said_to_be(open_scene: OpenScene, tmp_path: Path) -> None:
    scene = open_scene(sqlite_url(tmp_path), keeping=BMI)
    version = tmp_path / "version"
    version.mkdir()
    (version / "signature.json").write_bytes(orjson.dumps(columns("age", "bmi").to_json()))
    number = scene.registry.register(model="m", job="J", directory=str(version), task="regression", gates=[])
    taken = note(first_id_at(NOON)[:10] + new_id()[10:], sent=b'{"inputs": [[41, 32.1]]}', version=number)

    scene.insert([taken])
    record = scene.store.get(taken.id)

    assert (record.document["inputs"], record.document["redacted"]) == ([[41, None]], ["bmi"])
    with pytest.raises(InputsRedacted, match=r"values of bmi were redacted .VITRINE_REDACTED_FEATURES"):
        record.inputs("explained")


# -- retention -------------------------------------------------------------------------------------------------------


def test_what_is_older_than_it_is_kept_is_unknown_before_and_after_the_sweep(
    open_scene: OpenScene, database_url: str
) -> None:
    scene = open_scene(database_url)
    second = timedelta(seconds=1)
    young, old = scene.keep(WEEK - second, WEEK + second)

    before = (scene.knows(young), scene.knows(old))
    swept = scene.store.sweep()
    scene.now = NOON - 2 * second  # a clock that is set back finds nothing again

    assert (before, swept) == ((True, False), 1)
    assert (True, False) == (scene.knows(young), scene.knows(old))


def test_of_too_many_the_latest_are_kept(open_scene: OpenScene, database_url: str) -> None:
    scene = open_scene(database_url, most=100)
    ids = scene.keep(*(timedelta(seconds=i) for i in range(750)))

    swept = (scene.store.sweep(), scene.store.sweep())

    assert swept == (650, 0)
    assert ids[:100] == [each for each in ids if scene.knows(each)]


# -- which are taken -------------------------------------------------------------------------------------------------


def test_every_replica_samples_the_same_requests() -> None:
    replicas = [PredictionRecorder(lambda _: None, rate=0.2) for _ in range(2)]
    taken: list[list[int]] = [[], []]

    for i in range(2000):
        for which, replica in enumerate(replicas):

            def answer(i: int = i, which: int = which, replica: PredictionRecorder = replica) -> None:
                add_to_context(request_id=f"request-{i}")
                was = replica.waiting
                replica.note(new_id(), "m", 3, SENT, ANSWER)  # each gives ids of its own
                if replica.waiting > was:
                    taken[which].append(i)

            contextvars.copy_context().run(answer)

    assert taken[0] == taken[1]
    assert len(taken[0]) == pytest.approx(400, abs=60)


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0), (0.5, 400, 600), (1.0, 1000, 1000)])
def test_so_large_a_part_is_recorded_as_is_set(rate: float, least: int, most: int) -> None:
    recorder = PredictionRecorder(lambda _: None, rate=rate)

    take(recorder, 1000)

    assert least <= recorder.waiting <= most
    assert recorder.dropped == 0


# -- writing ---------------------------------------------------------------------------------------------------------


def test_predictions_are_written_in_batches_in_order(open_scene: OpenScene, tmp_path: Path) -> None:
    scene, batches = open_scene(sqlite_url(tmp_path)), []
    scene.now = datetime.now(UTC)

    def insert(notes: Sequence[PredictionNote]) -> None:
        batches.append([each.id for each in notes])
        scene.insert(notes)

    with running(PredictionRecorder(insert, rate=1)) as recorder:
        ids = take(recorder, BATCH_RECORDS + 20)
        wait_for(lambda: recorder.waiting == 0)

    assert ids == [each for batch in batches for each in batch]
    assert max(map(len, batches)) == BATCH_RECORDS
    assert (recorder.written, recorder.dropped) == (len(ids), 0)
    assert all(scene.knows(each) for each in (ids[0], ids[-1]))


def test_a_record_is_not_waited_for_before_it_is_in_the_queue() -> None:
    """Else the thread that writes would have nothing to write, and no database takes a batch of nothing."""
    recorder = PredictionRecorder(lambda _: None, rate=1)
    counted: list[int] = []

    class Watched(deque[Any]):
        def append(self, each: Any) -> None:
            counted.append(recorder.waiting)
            super().append(each)

    recorder._queue = Watched()
    take(recorder, 2)

    assert counted == [0, 1]
    assert recorder.waiting == 2


def test_while_the_database_is_locked_records_wait_and_none_is_lost(open_scene: OpenScene, tmp_path: Path) -> None:
    scene = open_scene(sqlite_url(tmp_path), lock_wait_ms=100)
    scene.now = datetime.now(UTC)

    with running(PredictionRecorder(scene.insert, rate=1)) as recorder:
        with locked_by_another_process(tmp_path / "vitrine.sqlite"):
            ids = take(recorder, 3)
            wait_for(lambda: recorder.problem)
            problem = recorder.problem
            ids += take(recorder, 3)
        wait_for(lambda: recorder.waiting == 0)

    assert problem == "database is locked"
    assert recorder.problem is None
    assert all(scene.knows(each) for each in ids)


def test_while_the_database_server_is_gone_records_wait_and_none_is_lost(
    open_scene: OpenScene, postgres: Postgres
) -> None:
    scene = open_scene(postgres.new_database())
    scene.now = datetime.now(UTC)

    with running(PredictionRecorder(scene.insert, rate=1)) as recorder:
        postgres.stop()
        try:
            ids = take(recorder, 3)
            wait_for(lambda: recorder.problem)
        finally:
            postgres.start()
        wait_for(lambda: recorder.waiting == 0)

    assert recorder.problem is None
    assert all(scene.knows(each) for each in ids)


def test_what_the_queue_does_not_hold_is_dropped_and_counted(open_scene: OpenScene, tmp_path: Path) -> None:
    scene, may_write = open_scene(sqlite_url(tmp_path)), Event()
    scene.now = datetime.now(UTC)

    def insert(notes: Sequence[PredictionNote]) -> None:
        assert may_write.wait(120)
        scene.insert(notes)

    with running(PredictionRecorder(insert, rate=1, queue_bytes=100_000)) as recorder:
        large = b'{"inputs": ["' + b"x" * 29_000 + b'"]}'
        ids = take(recorder, 5, sent=large)
        waiting, dropped = recorder.waiting, recorder.dropped
        may_write.set()
        wait_for(lambda: recorder.waiting == 0)
        problem = wait_for(lambda: recorder.problem)
        wait_for(lambda: recorder.problem is None)
        (after,) = take(recorder, 1)

    assert (waiting, dropped) == (3, 2)
    assert "queue" in problem
    assert [True, True, True, False, False] == [scene.knows(each) for each in ids]
    assert scene.knows(after)


def test_a_batch_that_no_database_takes_is_counted_and_does_not_hold_up_the_others(
    open_scene: OpenScene, tmp_path: Path
) -> None:
    scene = open_scene(sqlite_url(tmp_path))
    scene.now = datetime.now(UTC)
    impossible: Any = None

    with running(PredictionRecorder(scene.insert, rate=1)) as recorder:
        recorder.note(new_id(), "m", impossible, SENT, ANSWER)
        wait_for(lambda: recorder.dropped)
        (after,) = take(recorder, 1)
        wait_for(lambda: recorder.written)

    assert (recorder.dropped, recorder.waiting) == (1, 0)
    assert scene.knows(after)


def test_closing_writes_what_waits(open_scene: OpenScene, tmp_path: Path) -> None:
    scene = open_scene(sqlite_url(tmp_path))
    scene.now = datetime.now(UTC)

    with running(PredictionRecorder(scene.insert, rate=1)) as recorder:
        ids = take(recorder, 2 * BATCH_RECORDS)

    assert recorder.waiting == 0
    assert all(scene.knows(each) for each in (ids[0], ids[-1]))


def test_closing_without_a_database_ends_and_says_how_many_are_lost(
    open_scene: OpenScene, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_recorder, "RETRY_SECONDS", 60.0)
    scene = open_scene(sqlite_url(tmp_path), lock_wait_ms=100)
    recorder = PredictionRecorder(scene.insert, rate=1)
    recorder.start()

    with locked_by_another_process(tmp_path / "vitrine.sqlite"):
        take(recorder, 7)
        wait_for(lambda: recorder.problem)
        recorder.close(seconds=10)

    assert "7 predictions were not recorded: database is locked" in caplog.text
