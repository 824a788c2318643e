"""How many cores this process may compute with: the one answer that every thread count here comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path, PurePosixPath

_TENSORFLOW_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def usable_cores(affinity: int | None = None, system: Path = Path("/")) -> int:
    """The cores of this process's affinity, or those of its control group's quota where that is less: at least 1.

    A quota of one and a half cores counts as one: a second thread would be stopped for half of its time, and what waits
    for both of them with it. A quota that changes is seen by whatever is loaded next.

    Args:
        affinity: processors that this process may be scheduled on; default: what the system says.
        system: where `proc` and `sys` are mounted.
    """
    allowed = len(os.sched_getaffinity(0)) if affinity is None else affinity
    return max(min([allowed, *(int(quota) for quota in quotas(system))]), 1)


def quotas(system: Path = Path("/")) -> list[float]:
    """The processor time that each control group around this process may take, in cores; those without a quota say
    nothing. Groups are nested, and each of them bounds those within it."""
    proc = system / "proc/self"
    try:
        memberships = (proc / "cgroup").read_text().splitlines()
        mounts = (proc / "mountinfo").read_text().splitlines()
    except OSError:
        # Another system, or one that hides it.
        return []
    return [quota for folder in _groups(memberships, mounts, system) if (quota := _quota(folder)) is not None]


def limit_tensorflow(cores: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Has TensorFlow compute with so many threads, where nobody has said otherwise. To be called before its import.

    By itself it goes by the affinity alone: a thread for each processor of a machine of which it may use two.
    """
    for name in _TENSORFLOW_THREADS:
        environment.setdefault(name, str(cores))


def _groups(memberships: list[str], mounts: list[str], system: Path) -> Iterator[Path]:
    """The folders of the control groups that bound this process's time, from its own up to what is mounted."""
    # hierarchy:controllers:path; version 2 has no controllers, and version 1 one hierarchy with `cpu` among its own.
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root, place in _mounted(mounts, "cgroup" if controllers else "cgroup2"):
            within = PurePosixPath(path)
            # In a container the path may be the one outside: then what is mounted is the group itself.
            inner = within.relative_to(root) if within.is_relative_to(root) else PurePosixPath()
            folder = system / place.relative_to("/") / inner
            for _ in range(len(inner.parts) + 1):
                yield folder
                folder = folder.parent


def _mounted(mounts: list[str], kind: str) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Of the mounts of a version of control groups that holds processor time: what is mounted, and where."""
    for line in mounts:
        before, _, after = line.partition(" - ")
        described = after.split()
        if described[:1] != [kind] or (kind == "cgroup" and "cpu" not in described[-1].split(",")):
            continue
        fields = before.split()
        yield PurePosixPath(fields[3]), PurePosixPath(fields[4])


def _quota(folder: Path) -> float | None:
    """Cores that a control group's quota comes to; None where it has none."""
    try:
        if (version_2 := folder / "cpu.max").exists():
            quota, period = version_2.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    # "max" and -1: as much as there is.
    return int(quota) / int(period) if quota.isdecimal() and int(period) > 0 else None
