"""Threads fit the cores that there are: those of the affinity, and of the control groups around the process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.cores import limit_tensorflow, quotas, usable_cores

VERSION_2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
VERSION_1 = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
SAY = "from models.cores import usable_cores; print(usable_cores())"


def system(folder: Path, *, member: str, mounts: str, files: dict[str, str]) -> Path:
    """A folder that has what is read of `/proc` and `/sys`."""
    for path, text in {"proc/self/cgroup": member, "proc/self/mountinfo": mounts, **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 1),  # one and a half
        ("50000 100000", 1),  # never none
        ("50000 20000", 2),
        ("1600000 100000", 8),  # more than there are
    ],
)
def test_a_quota_of_version_2_counts_in_whole_cores(tmp_path: Path, quota: str, cores: int) -> None:
    made = system(tmp_path, member="0::/app\n", mounts=VERSION_2, files={"sys/fs/cgroup/app/cpu.max": f"{quota}\n"})

    assert cores == usable_cores(8, made)


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_a_quota_of_version_1_counts_as_well(tmp_path: Path, quota: str, cores: int) -> None:
    folder = "sys/fs/cgroup/cpu,cpuacct/app"
    made = system(
        tmp_path,
        member="4:memory:/other\n3:cpu,cpuacct:/app\n0::/\n",
        mounts=VERSION_1.format(root="/"),
        files={f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"},
    )

    assert cores == usable_cores(8, made)


def test_the_least_quota_of_the_groups_around_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/pod/cpu.max": "200000 100000",
        "sys/fs/cgroup/pod/container/cpu.max": "max 100000",
        "sys/fs/cgroup/pod/container/app/cpu.max": "600000 100000",
    }
    made = system(tmp_path, member="0::/pod/container/app\n", mounts=VERSION_2, files=files)

    assert ([6.0, 2.0], 2) == (quotas(made), usable_cores(8, made))


def test_in_a_container_the_mounted_group_is_its_own_whatever_its_path_outside(tmp_path: Path) -> None:
    """Docker with version 1: the path is that of the host, and of the hierarchy only the container's group is there."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    made = system(
        tmp_path,
        member="3:cpu,cpuacct:/docker/0123/inner\n",
        mounts=VERSION_1.format(root="/docker/0123"),
        files={
            f"{folder}/cpu.cfs_quota_us": "400000",
            f"{folder}/cpu.cfs_period_us": "100000",
            f"{folder}/inner/cpu.cfs_quota_us": "200000",
            f"{folder}/inner/cpu.cfs_period_us": "100000",
        },
    )

    assert [2.0, 4.0] == quotas(made)


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    made = system(tmp_path / "one", member="0::/\n", mounts=VERSION_2, files={"sys/fs/cgroup/cpu.max": "nonsense"})

    assert (8, 8) == (usable_cores(8, made), usable_cores(8, tmp_path / "another"))


def test_affinity_counts_in_a_real_process() -> None:
    one = min(os.sched_getaffinity(0))

    found = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{one}}}); {SAY}"], capture_output=True, check=True
    )

    assert b"1\n" == found.stdout


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot become fewer")
def test_a_quota_counts_in_a_real_control_group(group: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"open({str(group / 'cgroup.procs')!r}, 'w').write('0'); {SAY}"],
        capture_output=True,
        check=True,
    )

    assert b"1\n" == found.stdout


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of version 1 or 2 with a quota of one core; skips where none may be made."""
    for root, files in (
        ("/sys/fs/cgroup/cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
        ("/sys/fs/cgroup", {"cpu.max": "100000 100000"}),
    ):
        folder = Path(root) / f"vitrine-test-{os.getpid()}"
        if may_bound(folder, files):
            yield folder
            folder.rmdir()
            return
    pytest.skip("no control group may be made here")


def may_bound(folder: Path, files: dict[str, str]) -> bool:
    """Whether a control group could be made there, with its bounds written."""
    try:
        folder.mkdir()
    except OSError:
        return False
    try:
        for name, text in files.items():
            # Not made by opening it: a folder that is no control group has no such file.
            with (folder / name).open("r+") as file:
                file.write(text)
    except OSError:
        folder.rmdir()
        return False
    return True


def test_tensorflow_is_told_unless_somebody_has_told_it() -> None:
    environment = {"TF_NUM_INTRAOP_THREADS": "7"}

    limit_tensorflow(2, environment)

    assert {"TF_NUM_INTRAOP_THREADS": "7", "TF_NUM_INTEROP_THREADS": "2"} == environment
