"""What a trainer may take before it is ended from outside: time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service.settings import Settings

Excess = Literal["out-of-time", "out-of-memory"]


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit."""

    minutes: float | None
    memory_mib: int | None

    def exceeded(self, seconds: float, resident_bytes: int) -> Excess | None:
        """Which limit a trainer is beyond that has run for so long and holds so much."""
        if self.memory_mib is not None and resident_bytes > self.memory_mib * 2**20:
            return "out-of-memory"
        if self.minutes is not None and seconds > self.minutes * 60:
            return "out-of-time"
        return None

    def in_words(self, excess: Excess) -> tuple[str, str]:
        """Why the job failed: title and detail."""
        if excess == "out-of-time":
            return (
                "The job took too long",
                f"Its trainer ran for more than {self.minutes:g} minutes, which is its limit. Resume goes on from its "
                "last checkpoint, for as long again; or train with fewer training.epochs, a larger "
                "training.batch_size, or another limits.minutes.",
            )
        return (
            "The job took too much memory",
            f"Its trainer held more than {self.memory_mib:,} MiB, which is its limit. Train with a smaller "
            "training.batch_size, narrower layers or fewer rows, or with another limits.memory_mib.",
        )


def limits_of(spec: dict[str, Any], settings: Settings) -> Limits:
    """Those of the job, and where it says nothing those of the worker."""
    asked = spec.get("limits") or {}
    minutes, memory_mib = asked.get("minutes"), asked.get("memory_mib")
    return Limits(
        settings.job_minutes if minutes is None else minutes,
        settings.job_memory_mib if memory_mib is None else memory_mib,
    )


def resident_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """Memory that a process holds now; 0 when it has ended, or the system does not say."""
    try:
        lines = (proc / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
