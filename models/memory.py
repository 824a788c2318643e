"""How much memory a fit will need, before it takes it; and how much there is."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.control_groups import groups_around
from models.errors import NotEnoughMemory

_BYTES = 4
_COPIES = {"sgd": 4, "rmsprop": 4, "adam": 5, "adamw": 5}
"""Of each weight: itself, its gradient, the optimizer's moments, those of the best epoch, and one more in passing."""


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """`parameters` of a network, and the `activations` that one row has in all of its layers together."""

    parameters: int
    activations: int

    def fit_bytes(self, optimizer: str, batch_size: int) -> int:
        """About what a fit takes: copies of the weights, and activations and their gradients for a batch."""
        return _BYTES * (self.parameters * _COPIES[optimizer] + 2 * self.activations * batch_size)


def measure_size(build: Callable[[Any], Any], shape: tuple[int, ...]) -> NetworkSize:
    """The size of a network that is described, and not made: no weight takes any memory.

    Args:
        build: gives the network's output for a Keras input.
        shape: of a row of that input.

    In a thread of its own, since Keras keeps the names of layers, and variables that wait for their values, by thread.
    With the random state put back, the real network is then built as if this one had never been.

    Raises:
        Whatever `build` raises.
    """
    found: list[Any] = []

    def describe() -> None:
        import keras

        try:
            with keras.StatelessScope(initialize_variables=False):
                inputs = keras.Input(shape)
                model = keras.Model(inputs, build(inputs))
                found.append(NetworkSize(model.count_params(), sum(map(_elements, model.layers))))
        except Exception as error:  # handed to the caller's thread
            found.append(error)

    drawn = random.getstate()
    thread = threading.Thread(target=describe, name="size of the network")
    thread.start()
    thread.join()
    random.setstate(drawn)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _elements(layer: Any) -> int:
    import keras

    outputs = keras.tree.flatten(layer.output)
    count = sum(int(np.prod([size or 1 for size in output.shape[1:]], dtype=object)) for output in outputs)
    if isinstance(layer, keras.layers.MultiHeadAttention):
        steps = outputs[0].shape[1]
        count += layer.num_heads * steps * steps * 2
    return count


def check_memory(needed_bytes: int, available_bytes: int | None, *, parameters: int, batch_size: int) -> None:
    """Raises `NotEnoughMemory` where a fit needs more than there is; where nobody says how much, nothing."""
    if available_bytes is not None and needed_bytes > available_bytes:
        raise NotEnoughMemory(needed_bytes, available_bytes, parameters, batch_size)


def available_bytes(meminfo: Path = Path("/proc/meminfo"), groups: Sequence[Path] | None = None) -> int | None:
    """The memory that this process may still take: of the machine, or of a control group around it where that is less.

    Args:
        groups: their folders; default: those that there are.
    """
    figures = []
    try:
        lines = meminfo.read_text().splitlines()
        figures += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        # Another system: what the groups say counts.
        pass
    left = (_left_in(folder) for folder in (groups_around("memory") if groups is None else groups))
    return min([*figures, *(each for each in left if each is not None)], default=None)


def _left_in(group: Path) -> int | None:
    """What the processes of a control group may still take together; None where it has no limit."""
    for limit_file, used_file, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit, used = ((group / name).read_text().strip() for name in (limit_file, used_file))
            # Cached files count as used, and are given up when memory is asked for.
            kept = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if limit.isdecimal():
            return max(int(limit) - int(used) + int(kept.get(cached, 0)), 0)
    return None


def resident_peak_bytes(status: Path = Path("/proc/self/status")) -> int | None:
    """The most memory that this process has held at once; None where the system does not say."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
