"""Which GPUs there are, and which of them is free: a trainer has one for itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

VISIBLE = "CUDA_VISIBLE_DEVICES"


def find_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> tuple[str, ...]:
    """The names of the GPUs that this process may use, as CUDA takes them; found without loading CUDA.

    Where `CUDA_VISIBLE_DEVICES` names some, those; else as many as there are device files.
    """
    if (named := environment.get(VISIBLE)) is not None:
        names = [name.strip() for name in named.split(",")]
        # As CUDA reads it: what comes after an invalid name does not count.
        end = next((place for place, name in enumerate(names) if name in ("", "-1", "NoDevFiles")), len(names))
        return tuple(names[:end])
    found = [entry for entry in devices.iterdir() if re.fullmatch(r"nvidia\d+", entry.name)]
    return tuple(str(number) for number in range(len(found)))


class GpuSlots:
    """GPUs to be taken by trainers, each by one at a time. Without GPUs there is nothing to take."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._free: SimpleQueue[str] = SimpleQueue()
        self.count = len(gpus)
        for gpu in gpus:
            self._free.put(gpu)

    @contextmanager
    def taken(self) -> Iterator[dict[str, str]]:
        """The environment of a trainer that has a GPU for itself while the block runs; waits until one is free."""
        if not self.count:
            yield {}
            return
        gpu = self._free.get()
        try:
            yield {VISIBLE: gpu}
        finally:
            self._free.put(gpu)
