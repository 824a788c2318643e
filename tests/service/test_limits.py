"""What a trainer may take, and which GPU it has."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread

import pytest

from service.jobs.gpus import GpuSlots, find_gpus
from service.jobs.limits import Limits, limits_of, resident_bytes
from service.settings import Settings

MIB = 2**20


@pytest.mark.parametrize(
    ("limits", "seconds", "held", "excess"),
    [
        (Limits(None, None), 1e9, 1e15, None),
        (Limits(2, None), 120, 0, None),
        (Limits(2, None), 120.1, 0, "out-of-time"),
        (Limits(None, 100), 0, 100 * MIB, None),
        (Limits(None, 100), 0, 100 * MIB + 1, "out-of-memory"),
        (Limits(2, 100), 500, 200 * MIB, "out-of-memory"),
    ],
)
def test_a_trainer_is_beyond_its_limits_or_not(limits: Limits, seconds: float, held: int, excess: str | None) -> None:
    assert excess == limits.exceeded(seconds, held)


def test_what_a_job_does_not_say_the_settings_say() -> None:
    settings = Settings(job_minutes=60, job_memory_mib=4096)

    assert Limits(60, 4096) == limits_of({"limits": {"minutes": None, "memory_mib": None}}, settings)
    assert Limits(5, 4096) == limits_of({"limits": {"minutes": 5, "memory_mib": None}}, settings)
    assert Limits(None, None) == limits_of({}, Settings())


def test_the_memory_of_a_process_is_read_and_that_of_none_is_0() -> None:
    assert 10 * MIB < resident_bytes(os.getpid()) < 10_000 * MIB
    assert 0 == resident_bytes(2**22 + 1)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ("0", "1")),
        ({"CUDA_VISIBLE_DEVICES": "3, GPU-8f2"}, ("3", "GPU-8f2")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, ("1",)),
    ],
)
def test_gpus_are_those_that_cuda_would_see(
    tmp_path: Path, environment: dict[str, str], found: tuple[str, ...]
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()

    assert found == find_gpus(environment, tmp_path)


@pytest.mark.parametrize(("trainers", "gpus", "at_once"), [(None, 4, 4), (2, 4, 2), (8, 4, 4), (3, 0, 3)])
def test_as_many_jobs_run_at_once_as_there_are_gpus_at_most(trainers: int | None, gpus: int, at_once: int) -> None:
    assert at_once == Settings(trainers=trainers).trainers_at_once(gpus)


def test_a_gpu_is_one_trainers_until_it_ends() -> None:
    slots, got, waited = GpuSlots(["0"]), [], Event()

    def second() -> None:
        with slots.taken() as environment:
            got.append(environment)
            waited.set()

    with slots.taken() as first:
        thread = Thread(target=second)
        thread.start()
        assert not waited.wait(0.1)
    assert waited.wait(60)
    thread.join()

    assert [{"CUDA_VISIBLE_DEVICES": "0"}] == got == [first]


def test_without_gpus_a_trainer_is_told_nothing() -> None:
    with GpuSlots([]).taken() as environment:
        assert {} == environment
