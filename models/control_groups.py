"""The control groups around this process, which bound what it may take of the machine: where they are, of both
versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def groups_around(controller: str, system: Path = Path("/")) -> list[Path]:
    """The folders of the control groups around this process, from its own up to what is mounted. Groups are nested, and
    each of them bounds those within it.

    Args:
        controller: of version 1, whose hierarchy is looked at: `cpu`, `memory`. Version 2 has one for all.
        system: where `proc` and `sys` are mounted.
    """
    proc = system / "proc/self"
    try:
        memberships = (proc / "cgroup").read_text().splitlines()
        mounts = (proc / "mountinfo").read_text().splitlines()
    except OSError:
        # Another system, or one that hides it.
        return []
    return [*_groups(controller, memberships, mounts, system)]


def _groups(controller: str, memberships: list[str], mounts: list[str], system: Path) -> Iterator[Path]:
    # hierarchy:controllers:path; version 2 has no controllers, and version 1 one hierarchy with this one among its own.
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for root, place in _mounted(controller, mounts, "cgroup" if controllers else "cgroup2"):
            within = PurePosixPath(path)
            # In a container the path may be the one outside: then what is mounted is the group itself.
            inner = within.relative_to(root) if within.is_relative_to(root) else PurePosixPath()
            folder = system / place.relative_to("/") / inner
            for _ in range(len(inner.parts) + 1):
                yield folder
                folder = folder.parent


def _mounted(controller: str, mounts: list[str], kind: str) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Of the mounts of a version of control groups that holds a controller: what is mounted, and where."""
    for line in mounts:
        before, _, after = line.partition(" - ")
        described = after.split()
        if described[:1] != [kind] or (kind == "cgroup" and controller not in described[-1].split(",")):
            continue
        fields = before.split()
        yield PurePosixPath(fields[3]), PurePosixPath(fields[4])
