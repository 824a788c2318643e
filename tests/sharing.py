"""What the processes of one run share: the cores, the memory, and what need be made only once."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

GIB_PER_WORKER = 3
"""A worker imports TensorFlow, and starts servers whose compute processes do, too."""
MOST_WORKERS = 8
"""More have no use: the dearest file takes that long."""


def is_worker() -> bool:
    """Whether this process is one of several that share a run."""
    return "PYTEST_XDIST_WORKER" in os.environ


def number_of_workers() -> int:
    """As many as there are cores, where the memory suffices."""
    available_kib = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert available_kib
    suffices_for = int(available_kib[1]) // (GIB_PER_WORKER * 2**20)
    return max(1, min(len(os.sched_getaffinity(0)), suffices_for, MOST_WORKERS))


def made_once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` makes, in the first process of the run that asks for it; made aside, then put in place."""
    own = folders.getbasetemp()
    shared = (own.parent if is_worker() else own) / "shared"
    shared.mkdir(exist_ok=True)
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / name).exists():
            aside = shared / f"{name}.aside"
            shutil.rmtree(aside, ignore_errors=True)  # another has failed, or was killed
            make(aside)
            aside.rename(shared / name)
    return shared / name
