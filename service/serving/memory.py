"""What loaded versions take of the memory, measured where the system tells, and how much they may take together."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from models.artifact import BACKGROUND, GRADIENT, KERAS, ONNX
from models.control_groups import groups_around

PROCESSES_BYTES = 2 * 2**30
"""What the processes take without any version, about: API 0.2 GiB, compute 0.7 GiB, a trainer 1 GiB."""
LEAST_BUDGET_BYTES = 256 * 2**20
OVERHEAD_BYTES = 8 * 2**20
"""What the smallest version takes beside its files: a session and a background in each process (3.2 MiB each), and what
TensorFlow compiled (2.4 MiB)."""
COMPILED_BYTES = 5 * 2**19
"""What TensorFlow keeps of a version beside its weights: 2.4 MiB with a small network."""

_measuring = Lock()


_FIGURES = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip


class _HeapFigures(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIGURES)


def _libc_function(name: str) -> Any:
    """A function of the C library that only glibc has; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None)


def heap_bytes() -> int | None:
    """What this process has allocated and not freed; None where the C library does not tell.

    Not the resident memory: that keeps what was freed, so that it does not grow when that is taken again.
    """
    read = _libc_function("mallinfo2")
    if read is None:
        return None
    read.restype = _HeapFigures
    figures: Any = read()
    return figures.uordblks + figures.hblkhd


def give_back_freed() -> None:
    """Gives what was freed back to the system: after a load of a network on images that is 30 MiB."""
    trim = _libc_function("malloc_trim")
    if trim is not None:
        trim(0)


@dataclass(slots=True)
class Growth:
    """Attributes: measured: bytes, at least `least`, which also stands for what cannot be measured."""

    least: int
    measured: int = 0


@contextmanager
def heap_growth(least_bytes: int) -> Iterator[Growth]:
    """Measures what is allocated within and not freed, in any thread: one such measurement at a time.

    What others allocate meanwhile counts too; requests free theirs when they are answered.

    Args:
        least_bytes: what is known to be held at least.
    """
    growth = Growth(least_bytes, least_bytes)
    with _measuring:
        before = heap_bytes()
        yield growth
        after = heap_bytes()
        if before is not None and after is not None:
            growth.measured = max(after - before, least_bytes)


def file_bytes(directory: Path, *names: str) -> int:
    """The sizes of some files of a version; of what is not there 0: loading it says what is wrong."""
    total = 0
    for name in names:
        try:
            total += (directory / name).stat().st_size
        except OSError:
            continue
    return total


def expected_bytes(directory: Path) -> int:
    """What a version takes at least, in both processes, by its files: known before it is loaded."""
    gradients = [path.name for path in directory.glob(GRADIENT.format(output="*"))]
    here = file_bytes(directory, ONNX, BACKGROUND)
    return here + file_bytes(directory, ONNX, BACKGROUND, KERAS, *gradients) + OVERHEAD_BYTES


def memory_limit_bytes(system: Path = Path("/")) -> int:
    """The memory of the machine, or what the control groups around this process (version 2 or 1) may take of it.

    Args:
        system: where `proc` and `sys` are mounted.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in groups_around("memory", system):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            if text.isdecimal():
                limits.append(int(text))
    return min(limits)


def default_budget_bytes(limit_bytes: int) -> int:
    """What versions may take where nothing is set: half of what the processes leave of the limit."""
    return max((limit_bytes - PROCESSES_BYTES) // 2, LEAST_BUDGET_BYTES)
