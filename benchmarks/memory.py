"""The memory of a process and of all that it started, as Linux tells it in /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    parent: int
    command: tuple[str, ...]
    resident_mib: float

    @property
    def name(self) -> str:
        """What a reader calls it: the first words after the interpreter, without options, numbers and code."""
        words = [Path(word).name for word in self.command[1:4]]
        return " ".join(word for word in words if word[:1].isalpha() and len(word) <= 40) or "?"


def listening_process(port: int) -> int | None:
    """The topmost process of the server that listens on a port: up from the listener while the parent is Vitrine's.

    None when no process that this user may read listens there.
    """
    sockets = _listening_sockets(port)
    processes = read_processes()
    listener = next((pid for pid in processes if sockets & _open_sockets(pid)), None)
    if listener is None:
        return None
    top = processes[listener]
    while (parent := processes.get(top.parent)) and _is_vitrine(parent):
        top = parent
    return top.pid


def process_tree(root: int) -> list[Process]:
    """A process and its descendants, parents before children."""
    processes = read_processes()
    found = [processes[root]]
    for process in found:
        found += [child for child in processes.values() if child.parent == process.pid]
    return found


def read_processes() -> dict[int, Process]:
    """Every process that this user may read, by its number."""
    processes = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and (process := _read_process(folder)):
            processes[process.pid] = process
    return processes


def _read_process(folder: Path) -> Process | None:
    try:
        command = (folder / "cmdline").read_text().rstrip("\0").split("\0")
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    except OSError:
        return None  # it has ended, or belongs to somebody else
    resident_kib = int(status.get("VmRSS", "0 kB").split()[0])
    return Process(int(folder.name), int(status["PPid"]), tuple(command), resident_kib / 1024)


def _is_vitrine(process: Process) -> bool:
    words = [Path(word).name for word in process.command[:3]]
    return "vitrine" in words or words[1:3] == ["-m", "service"]


def _listening_sockets(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port."""
    sockets = set()
    for table in (_PROC / "net/tcp", _PROC / "net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            columns = line.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                sockets.add(columns[9])
    return sockets


def _open_sockets(pid: int) -> set[str]:
    try:
        targets = [os.fspath(descriptor.readlink()) for descriptor in (_PROC / str(pid) / "fd").iterdir()]
    except OSError:
        return set()
    return {target[len("socket:[") : -1] for target in targets if target.startswith("socket:[")}
