"""The pool beside a real registry and real versions; the compute process is away, so that nothing can depend on it."""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pool_scene import NAME, Scene
from support import PATIENT, database_of, without_onnx

from models.artifact import Artifact
from models.errors import CorruptVersion, UnknownModel, UnknownVersion
from models.registry import CHAMPION
from models.retention import Retention, Verdict
from models.rows import decode_rows
from service.draining import Drain
from service.errors import RegistryUnavailable, VersionUnavailable
from service.routes.operations import readiness
from service.serving.served_model import ServedModel


@pytest.fixture
def run(tmp_path: Path, diabetes_artifact: Artifact) -> Callable[..., None]:
    def run(test: Callable[[Scene], Coroutine[Any, Any, None]], **options: Any) -> None:
        scene = Scene(
            tmp_path / "home", options.pop("artifact", diabetes_artifact), options.pop("versions", 3), **options
        )
        asyncio.run(test(scene))

    return run


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the versions that were loaded, in order."""
    numbers: list[int] = []
    original = ServedModel.__init__

    def counted(self: ServedModel, record: Any, *arguments: Any) -> None:
        numbers.append(record.version)
        original(self, record, *arguments)

    monkeypatch.setattr(ServedModel, "__init__", counted)
    return numbers


def test_concurrent_requests_for_one_version_share_one_load(run: Any, loads: list[int]) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        served = await asyncio.gather(*(scene.pool.resolve(NAME, "2") for _ in range(20)))
        assert 1 == len({id(version) for version in served})

    run(test)
    assert [2] == loads


def test_a_cancelled_request_does_not_undo_the_load_that_it_began(run: Any, loads: list[int]) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        impatient = asyncio.create_task(scene.pool.resolve(NAME, "2"))
        await asyncio.sleep(0)
        impatient.cancel()
        await scene.pool.resolve(NAME, "2")

    run(test)
    assert [2] == loads


def test_a_version_that_made_room_is_loaded_again_when_asked_for(run: Any, loads: list[int]) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        for version in ("1", "2", "1"):
            assert int(version) == (await scene.pool.resolve(NAME, version)).record.version
        assert [1] == scene.pool.loaded(NAME)

    run(test)
    assert [1, 2, 1] == loads


def test_a_version_that_made_room_while_in_use_is_taken_up_again_and_unloaded_only_when_nobody_uses_it(
    run: Any, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    unloaded: list[str] = []

    async def test(scene: Scene) -> None:
        monkeypatch.setattr(scene.compute, "unload", unloaded.append)
        await scene.pool.refresh()
        in_use = await scene.pool.resolve(NAME, "1")
        await scene.pool.resolve(NAME, "2")
        assert [2] == scene.pool.loaded(NAME)
        rows = decode_rows([PATIENT], in_use.signature)
        assert (1, 1) == (await in_use.evaluate(rows, "value")).shape
        again = await scene.pool.resolve(NAME, "1")
        assert again is in_use
        assert [] == [key for key in unloaded if key.startswith(f"{NAME}/1#")]
        del in_use, again
        await scene.pool.resolve(NAME, "3")
        gc.collect()
        assert [1, 1] == [sum(key.startswith(f"{NAME}/{version}#") for key in unloaded) for version in (1, 2)]

    run(test)
    assert [1, 2, 3] == loads


def test_an_alias_that_is_removed_is_no_longer_known(run: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.point("shadow", 1)
        await scene.pool.settle(NAME)
        assert 1 == (await scene.pool.resolve(NAME, "shadow")).record.version
        with database_of(scene.settings) as engine, engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM aliases")
        await scene.pool.refresh()
        with pytest.raises(UnknownVersion):
            await scene.pool.resolve(NAME, "shadow")

    run(test)


def test_a_version_that_is_deleted_is_not_kept_though_it_was_loaded_to_stay(run: Any) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        for version in ("1", "2"):
            await scene.pool.load(NAME, version)
        assert [1, 2] == scene.pool.loaded(NAME)

        record = scene.registry.model(NAME).resolve("2")
        Retention(scene.registry._engine).delete([Verdict(record, True, "test")], by="test")
        await scene.pool.refresh()

        assert [1] == scene.pool.loaded(NAME)
        assert not scene.pool.is_pinned(NAME, 2)
        assert scene.pool.is_pinned(NAME, 1)

    run(test)


def test_a_new_version_takes_over_only_when_the_compute_process_has_it_or_time_is_up(run: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        await scene.pool.settle(NAME)
        await _until(lambda: scene.pool.champion(NAME))
        scene.point(CHAMPION, 2)
        await scene.pool.settle(NAME)  # returns although the swap has not happened
        assert 1 == (await scene.pool.resolve(NAME, CHAMPION)).record.version

        def a_minute_later() -> bool:
            scene.clock.seconds += 61
            return scene.pool.champion(NAME).record.version == 2

        await _until(a_minute_later)

    run(test, swap_seconds=60, settle_seconds=0.3)


def test_a_version_that_only_the_compute_process_can_serve_is_no_champion_before_it_is_there(
    run: Any, diabetes_artifact: Artifact, tmp_path: Path
) -> None:
    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        await scene.pool.settle(NAME)
        scene.clock.seconds += 3600
        await scene.pool.settle(NAME)
        drain = Drain(grace_seconds=0, stop_seconds=0)
        document = readiness(scene.pool, {}, drain)
        assert "starting" == document["status"]
        assert [f"{NAME} has no champion that can be served yet"] == document["problems"]

    run(test, artifact=without_onnx(diabetes_artifact, tmp_path), settle_seconds=0.3)


def test_a_transient_failure_is_tried_again_after_a_growing_pause_and_recovers(run: Any, loads: list[int]) -> None:
    async def test(scene: Scene) -> None:
        away = scene.directory(1).with_name("away")
        scene.directory(1).rename(away)
        scene.point(CHAMPION, 1)
        for _ in range(5):
            await scene.pool.settle(NAME)
        assert [1] == loads
        with pytest.raises(CorruptVersion, match="is missing"):
            await scene.pool.resolve(NAME, CHAMPION)
        assert [1] == loads
        assert "is missing" in scene.pool.problems[f"{NAME}/1"]
        for seconds, expected in ((1.0, 2), (1.0, 2), (1.0, 3), (3.9, 3)):
            scene.clock.seconds += seconds
            await scene.pool.settle(NAME)
            assert expected == len(loads)
        away.rename(scene.directory(1))
        scene.clock.seconds += 0.1
        await scene.pool.settle(NAME)
        assert 1 == (await scene.pool.resolve(NAME, CHAMPION)).record.version
        assert {} == scene.pool.problems

    run(test)


def test_too_many_open_files_is_said_as_it_is_and_passes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        with monkeypatch.context() as patched:

            def exhausted(*_: Any) -> None:
                raise OSError(24, "Too many open files")

            patched.setattr(ServedModel, "__init__", exhausted)
            for _ in range(2):
                with pytest.raises(VersionUnavailable, match="Too many open files") as refusal:
                    await scene.pool.resolve(NAME, "1")
        assert 1.0 == refusal.value.retry_after_seconds
        scene.clock.seconds += 1.0
        assert 1 == (await scene.pool.resolve(NAME, "1")).record.version

    run(test)


def test_requests_for_what_is_unknown_share_readings_of_the_registry(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        readings = []
        models = scene.registry.models
        monkeypatch.setattr(scene.registry, "models", lambda: readings.append(1) or models())
        answers = await asyncio.gather(*(scene.pool.resolve(f"no-{i}", "1") for i in range(50)), return_exceptions=True)
        assert {UnknownModel} == {type(answer) for answer in answers}
        assert len(readings) <= 2

    run(test)


def test_a_slow_registry_holds_up_neither_what_is_loaded_nor_for_long_what_is_unknown(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Event

    released = Event()

    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        await scene.pool.settle(NAME)
        models = scene.registry.models
        monkeypatch.setattr(scene.registry, "models", lambda: released.wait() and models())
        refreshing = asyncio.create_task(scene.pool.refresh())
        assert 1 == (await scene.pool.resolve(NAME, CHAMPION)).record.version
        assert 2 == (await scene.pool.resolve(NAME, "2")).record.version
        with pytest.raises(RegistryUnavailable):
            await scene.pool.resolve("unknown", "1")
        released.set()
        await refreshing
        with pytest.raises(UnknownModel):
            await scene.pool.resolve("unknown", "1")

    run(test, refresh_seconds=1.0)


def test_a_registry_that_fails_is_a_problem_until_it_answers_again(run: Any) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        database = scene.settings.home / "vitrine.sqlite"
        scene.registry._engine.dispose()
        shutil.move(database, database.with_suffix(".away"))
        database.mkdir()
        following = asyncio.create_task(scene.pool.follow())
        await _until(lambda: "registry" in scene.pool.problems)
        with pytest.raises(RegistryUnavailable):
            await scene.pool.resolve("unknown", "1")
        database.rmdir()
        shutil.move(database.with_suffix(".away"), database)
        await _until(lambda: scene.pool.problems == {})
        following.cancel()

    run(test)


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)
