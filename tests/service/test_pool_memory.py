"""Versions that take more memory than they may: which are loaded, which make room, and what is said where none is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pool_scene import NAME, Scene
from support import PATIENT

from models.artifact import Artifact
from models.registry import CHAMPION
from models.rows import decode_rows
from service.draining import Drain
from service.errors import ComputeUnavailable, NoRoomForVersion, VersionPreloaded, VersionTooLarge
from service.routes.operations import readiness
from service.serving import pool as pool_module
from service.serving import residents
from service.serving.explaining import LoadReport
from service.serving.memory import default_budget_bytes, expected_bytes, heap_bytes, heap_growth, memory_limit_bytes
from service.serving.residents import Tenant, least_recently_used, surplus
from service.serving.served_model import ServedModel

MIB = 2**20
SIZE = 10 * MIB
Test = Callable[[Scene], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path, diabetes_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a test over versions that take 10 MiB each."""
    monkeypatch.setattr(ServedModel, "memory_bytes", property(lambda _: SIZE))
    monkeypatch.setattr(pool_module, "expected_bytes", lambda _: SIZE)

    def run(test: Test, **options: Any) -> None:
        scene = Scene(tmp_path / "home", diabetes_artifact, options.pop("versions", 3), **options)
        asyncio.run(test(scene))

    return run


def tenants(*described: tuple[int, int, bool]) -> list[Tenant]:
    """Of (size, last use, pinned); the first is version 1."""
    return [Tenant(("m", i + 1), *each) for i, each in enumerate(described)]


# -- who goes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "going"),
    [(-5, []), (0, []), (1, [2]), (10, [2]), (11, [2, 3]), (30, [2, 3]), (31, None)],
)
def test_the_ones_used_longest_ago_go_and_no_more_than_it_takes(wanted: int, going: list[int] | None) -> None:
    held = tenants((50, 0, True), (10, 1, False), (20, 2, False))

    found = least_recently_used(held, wanted)

    assert (None if going is None else [("m", version) for version in going]) == found


def test_of_too_many_spare_versions_the_ones_used_longest_ago_go() -> None:
    held = tenants((1, 5, False), (1, 3, False), (1, 4, False))

    assert [("m", 2), ("m", 3)] == surplus(held, 1)
    assert [] == surplus(held, 3)


@pytest.mark.parametrize(("limit_gib", "budget_mib"), [(64, 31 * 1024), (8, 3 * 1024), (2, 256), (0.5, 256)])
def test_the_default_budget_leaves_the_processes_their_memory(limit_gib: float, budget_mib: int) -> None:
    assert budget_mib * MIB == default_budget_bytes(int(limit_gib * 2**30))


VERSION_2 = ("0::/system.slice/vitrine.service\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
VERSION_1 = ("4:memory:/docker/1\n0::/\n", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")


@pytest.mark.parametrize(
    ("proc", "files", "limit"),
    [
        (VERSION_2, {"system.slice/vitrine.service/memory.max": "1073741824\n"}, 2**30),
        (VERSION_2, {"system.slice/memory.max": "536870912", "system.slice/vitrine.service/memory.max": "max"}, 2**29),
        (VERSION_2, {"system.slice/vitrine.service/memory.max": "max\n"}, None),
        (VERSION_1, {"memory/docker/1/memory.limit_in_bytes": "1073741824\n"}, 2**30),
        (VERSION_1, {"memory/docker/1/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        (("0::/\n", VERSION_2[1]), {"memory.max": "1073741824\n"}, 2**30),
    ],
)
def test_the_limit_is_the_least_of_the_control_groups_around(
    tmp_path: Path, proc: tuple[str, str], files: dict[str, str], limit: int | None
) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    written = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for path, text in {"proc/self/cgroup": proc[0], "proc/self/mountinfo": proc[1], **written}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert min(whole, limit or whole) == memory_limit_bytes(tmp_path)


# -- what is measured ------------------------------------------------------------------------------------------------


def test_growth_is_what_stays_allocated_though_freed_memory_is_taken_again() -> None:
    if heap_bytes() is None:
        pytest.skip("only glibc tells")
    freed = bytearray(40 * MIB)
    del freed

    with heap_growth(1) as growth:
        passing = bytearray(30 * MIB)
        kept = bytearray(20 * MIB)
        del passing

    assert 20 * MIB <= growth.measured < 21 * MIB
    assert len(kept) == 20 * MIB


def test_growth_is_at_least_what_is_known() -> None:
    with heap_growth(7 * MIB) as growth:
        pass

    assert 7 * MIB == growth.measured


def test_what_a_version_takes_is_told_at_once_though_its_process_is_started_anew_meanwhile() -> None:
    loaded, again = Future[LoadReport](), Future[LoadReport]()
    loaded.set_result(LoadReport("cpu", {}, memory_bytes=2 * MIB))
    loads = iter([loaded, again, again])
    served: Any = object.__new__(ServedModel)
    served.key, served._bytes_here, served._expected_bytes = "m/1#1", 3 * MIB, MIB
    served._compute = SimpleNamespace(loading=lambda _key: next(loads))

    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(lambda: served.memory_bytes)
        wait([asked], timeout=60)
        is_told = asked.done()
        again.set_exception(ComputeUnavailable("The server is stopping."))

    assert is_told
    assert 5 * MIB == asked.result()
    assert 3 * MIB == served.memory_bytes


def test_a_version_is_measured_within_reason_and_counted(tmp_path: Path, diabetes_artifact: Artifact) -> None:
    async def test() -> None:
        scene = Scene(tmp_path / "home", diabetes_artifact, 3, preload=())
        scene.pool._most_spare = 3
        await scene.pool.refresh()
        served = [await scene.pool.resolve(NAME, str(version)) for version in (1, 2, 3)]
        taken = [each.memory_bytes for each in served]
        assert all(expected_bytes(scene.directory(1)) <= n_bytes < 40 * MIB for n_bytes in taken)
        assert sum(taken) == scene.pool.memory_bytes(NAME) == scene.pool.residents.taken_bytes

    asyncio.run(test())


# -- making room -----------------------------------------------------------------------------------------------------


def test_the_version_used_longest_ago_makes_room_whether_or_not_it_has_an_alias(run: Any) -> None:
    async def test(scene: Scene) -> None:
        for alias, version in ((CHAMPION, 1), ("a", 2), ("b", 3)):
            scene.point(alias, version)
        await scene.pool.refresh()
        for name in (CHAMPION, "a", CHAMPION, "b"):
            await scene.pool.resolve(NAME, name)
        assert [1, 3] == scene.pool.loaded(NAME)
        assert 2 == (await scene.pool.resolve(NAME, "a")).record.version
        assert [2, 3] == scene.pool.loaded(NAME)
        assert {NAME: 2} == scene.pool.residents.evictions
        assert 4 == scene.pool.loads[NAME]

    run(test, memory_bytes=2 * SIZE, preload=())


def test_room_is_waited_for_while_requests_in_flight_hold_what_made_it(run: Any) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        in_flight = await scene.pool.resolve(NAME, "1")
        next_one = asyncio.create_task(scene.pool.resolve(NAME, "2"))
        await _until(lambda: scene.pool.loaded(NAME) == [])
        assert (1, 1) == (await in_flight.evaluate(decode_rows([PATIENT], in_flight.signature), "value")).shape
        assert not next_one.done()
        assert SIZE == scene.pool.residents.taken_bytes
        del in_flight
        assert 2 == (await next_one).record.version

    run(test, memory_bytes=SIZE, preload=())


def test_a_request_takes_up_again_what_made_room_and_is_still_held(run: Any) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        in_flight = await scene.pool.resolve(NAME, "1")
        next_one = asyncio.create_task(scene.pool.resolve(NAME, "2"))
        await _until(lambda: scene.pool.loaded(NAME) == [])
        assert in_flight is await scene.pool.resolve(NAME, "1")
        del in_flight
        assert 2 == (await next_one).record.version
        assert [2] == scene.pool.loaded(NAME)

    run(test, memory_bytes=SIZE, preload=())


def test_where_requests_hold_the_memory_for_long_the_next_one_is_told_so(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residents, "ROOM_SECONDS", 0.0)

    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        in_flight = await scene.pool.resolve(NAME, "1")
        with pytest.raises(NoRoomForVersion, match=r"Version 2 of 'diabetes' needs 10.0 MiB .* of 10.0 MiB"):
            await scene.pool.resolve(NAME, "2")
        del in_flight
        scene.clock.seconds += 1
        assert 2 == (await scene.pool.resolve(NAME, "2")).record.version

    run(test, memory_bytes=SIZE, preload=())


def test_a_version_larger_than_all_the_memory_is_refused_before_it_is_loaded(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        monkeypatch.setattr(ServedModel, "__init__", None)  # not even begun
        with pytest.raises(VersionTooLarge, match=r"takes 10.0 MiB .* may take 5.0 MiB. Raise .* to 10485760 or more"):
            await scene.pool.resolve(NAME, "1")
        assert "takes 10.0 MiB" in str(scene.pool.failure(NAME, 1))

    run(test, memory_bytes=SIZE // 2, preload=())


def test_a_version_that_turns_out_too_large_is_not_served_and_not_loaded_again(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServedModel, "memory_bytes", property(lambda _: 3 * SIZE))

    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        for seconds in (0, 3600):
            scene.clock.seconds += seconds
            with pytest.raises(VersionTooLarge, match=r"takes 30.0 MiB"):
                await scene.pool.resolve(NAME, "1")
        assert [] == scene.pool.loaded(NAME)
        assert 0 == scene.pool.residents.taken_bytes

    run(test, memory_bytes=2 * SIZE, preload=())


def test_a_version_that_grows_once_the_compute_process_has_it_lets_others_go(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        scene.point("a", 2)
        await scene.pool.settle(NAME)
        await scene.pool.resolve(NAME, "a")
        await scene.pool.resolve(NAME, CHAMPION)
        assert [1, 2] == scene.pool.loaded(NAME)
        monkeypatch.setattr(ServedModel, "memory_bytes", property(lambda _: 2 * SIZE))
        await scene.pool.refresh()
        assert [1] == scene.pool.loaded(NAME)

    run(test, memory_bytes=2 * SIZE)


# -- loading before it is asked for ----------------------------------------------------------------------------------


def test_what_there_is_no_room_for_is_loaded_when_it_is_asked_for_and_readiness_does_not_wait(run: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.point("a", 2)
        scene.point(CHAMPION, 1)
        await scene.pool.settle(NAME)
        assert [1] == scene.pool.loaded(NAME)  # the champion comes first
        assert "ready" == _readiness(scene)["status"]
        assert 2 == (await scene.pool.resolve(NAME, "a")).record.version
        assert [2] == scene.pool.loaded(NAME)
        await scene.pool.settle(NAME)
        assert [2] == scene.pool.loaded(NAME)  # nobody makes room for what nobody asks for
        assert "ready" == _readiness(scene)["status"]

    run(test, memory_bytes=SIZE)


def test_only_what_is_named_is_loaded_and_it_makes_no_room(run: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        scene.point("a", 2)
        await scene.pool.settle(NAME)
        await _until(lambda: scene.pool.loaded(NAME) == [2])
        assert "ready" == _readiness(scene)["status"]
        await scene.pool.resolve(NAME, CHAMPION)
        await scene.pool.resolve(NAME, "3")
        assert [2, 3] == scene.pool.loaded(NAME)
        assert (True, False) == (scene.pool.is_pinned(NAME, 2), scene.pool.is_pinned(NAME, 3))

    run(test, memory_bytes=2 * SIZE, preload=(f"{NAME}@a",))


def test_a_version_named_by_its_number_is_loaded_without_an_alias(run: Any) -> None:
    async def test(scene: Scene) -> None:
        await scene.pool.refresh()
        await _until(lambda: scene.pool.loaded(NAME) == [3])
        assert "ready" == _readiness(scene)["status"]
        with pytest.raises(VersionPreloaded, match="keeps version 3 loaded"):
            await scene.pool.unload(NAME, None)
        assert [3] == scene.pool.loaded(NAME)

    run(test, memory_bytes=2 * SIZE, preload=(f"{NAME}@3",))


def test_readiness_waits_for_what_is_named_and_says_what_failed(run: Any) -> None:
    async def test(scene: Scene) -> None:
        (scene.directory(2) / "card.json").unlink()
        await scene.pool.refresh()
        await _until(lambda: scene.pool.failure(NAME, 2))
        document = _readiness(scene)
        assert (False, "starting") == (document["ready"], document["status"])
        assert "wine has no champion that can be served yet" in document["problems"]
        assert f"{NAME}@2 cannot be served yet" in document["problems"]
        assert any(problem.startswith(f"{NAME}/2: ") and "card.json" in problem for problem in document["problems"])

    run(test, preload=("wine", f"{NAME}@2"))


def test_where_what_is_named_does_not_fit_readiness_says_so(run: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        await scene.pool.settle(NAME)
        await _until(lambda: scene.pool.failure(NAME, 1) or scene.pool.failure(NAME, 2))
        document = _readiness(scene)
        assert not document["ready"]
        assert any("stay loaded (VITRINE_PRELOAD" in problem for problem in document["problems"])

    run(test, memory_bytes=SIZE, preload=(NAME, f"{NAME}@2"))


# -- moving aliases --------------------------------------------------------------------------------------------------


def test_an_alias_that_moves_where_there_is_memory_for_one_version_alone_is_answered_by_the_new_one(run: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        await scene.pool.settle(NAME)
        assert 1 == (await scene.pool.resolve(NAME, CHAMPION)).record.version
        scene.point(CHAMPION, 2)
        await scene.pool.settle(NAME)
        assert 2 == (await scene.pool.resolve(NAME, CHAMPION)).record.version
        assert [2] == scene.pool.loaded(NAME)

    run(test, memory_bytes=SIZE, swap_seconds=0)


def test_an_alias_that_moved_while_its_version_was_out_is_answered_by_the_new_one(run: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.point(CHAMPION, 1)
        await scene.pool.refresh()
        await scene.pool.resolve(NAME, CHAMPION)
        await scene.pool.resolve(NAME, "3")
        assert [3] == scene.pool.loaded(NAME)
        scene.point(CHAMPION, 2)
        await scene.pool.refresh()
        assert 2 == (await scene.pool.resolve(NAME, CHAMPION)).record.version

    run(test, memory_bytes=SIZE, preload=())


def _readiness(scene: Scene) -> dict[str, Any]:
    return readiness(scene.pool, {}, Drain(grace_seconds=0, stop_seconds=0))


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)
