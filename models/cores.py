"""How many cores this process may compute with: the one answer that every thread count here comes from."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from models.control_groups import groups_around

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
    nothing."""
    return [quota for folder in groups_around("cpu", system) if (quota := _quota(folder)) is not None]


def limit_tensorflow(cores: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Has TensorFlow compute with so many threads, where nobody has said otherwise. To be called before its import.

    By itself it goes by the affinity alone: a thread for each processor of a machine of which it may use two.
    """
    for name in _TENSORFLOW_THREADS:
        environment.setdefault(name, str(cores))


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
