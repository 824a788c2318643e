"""What the processes of one run share: the cores, the memory, and what need be made only once."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import Artifact, open_artifact

GIB_PER_WORKER = 3
"""A worker imports TensorFlow, and starts servers whose compute processes do, too."""
MOST_WORKERS = 8
"""More have no use: the dearest file takes that long."""


TOGETHER = {
    "tests/service/test_train_routes.py": "system",
    "tests/service/test_gated_jobs.py": "system",
    "tests/service/test_uploaded_images.py": "system",
    "tests/service/test_import_route.py": "system",
    "tests/service/test_dataset_routes.py": "system",
    "tests/service/test_cli.py": "system",
    "tests/service/test_malformed_requests.py": "narrow",
    "tests/service/test_v2_routes.py": "narrow",
    "tests/service/test_logs.py": "narrow",
    "tests/service/test_predictions_route.py": "recording",
    "tests/service/test_concurrent_predictions.py": "recording",
}
"""Files that run in one process of a run, because they share a server: to start one takes ten seconds of a core."""


def group_of(test: str) -> str:
    """What runs in one process with a test: its file, or several."""
    file = test.partition("::")[0]
    return TOGETHER.get(file, file)


def begins_before(test: str) -> tuple[bool, bool]:
    """By which tests are sorted: the dearest first, so that processes end at about the same time."""
    return test.partition("::")[0] not in TOGETHER, not test.startswith("tests/service/")


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


def made_version(folders: pytest.TempPathFactory, make: Callable[[Path, Path], Artifact]) -> tuple[Path, Artifact]:
    """The folder of data, and the version, that a function makes in two folders; made once in a run, by its name."""

    def both(aside: Path) -> None:
        (aside / "data").mkdir(parents=True)
        make(aside / "data", aside / "version")

    made = made_once(folders, make.__name__, both)
    return made / "data", open_artifact(made / "version")
