"""How the compute process is looked after: when it is started, renewed, or given up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Care:
    """How the compute process is looked after.

    Attributes:
        quick_death_seconds: a life shorter than this counts towards a crash loop.
        longest_pause_seconds: between two starts in a crash loop.
        stall_seconds: a process that says nothing for so long, though it is asked every few seconds, is killed.
        start_seconds: the same before its first word: importing TensorFlow takes its time on a busy machine.
        unloads_before_renewal: XLA keeps what it compiled after its function is gone (measured: 2.4 MiB a version
            with two small outputs), so that a process is replaced after so many unloaded versions.
        waiting_orders: the most orders that may wait, so that memory stays bounded.
    """

    quick_death_seconds: float = 60
    longest_pause_seconds: float = 30
    stall_seconds: float = 60
    start_seconds: float = 300
    unloads_before_renewal: int = 100
    waiting_orders: int = 256


def restart_pause(deaths: int, longest_seconds: float) -> float:
    """Seconds before the next start after so many quick deaths in a row: at once, then 1, 2, 4, ..."""
    return 0.0 if deaths <= 1 else min(longest_seconds, 2.0 ** (deaths - 2))


def reload_pause(failures: int) -> float:
    """Seconds before a version that could not be loaded is tried again: 2, 4, 8, ... at most ten minutes."""
    return min(600.0, 2.0**failures)
