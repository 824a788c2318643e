"""Figures of all jobs for Prometheus, read from the stores: right whatever process did what."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from models.database import reader_of
from service.jobs.memory import TrainerMemory
from service.jobs.progress import progress_table
from service.jobs.queue import JobQueue, JobTimes

DURATION_SECONDS = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0)
"""Upper bounds of the buckets of job durations."""
STATES = ("queued", "running", "succeeded", "failed", "cancelled")
OVERLAP_SECONDS = 60.0
"""How far each look goes back behind the last job seen to finish: clocks differ, transactions end out of order."""


@dataclass(frozen=True, slots=True)
class JobFigures:
    """What the stores said at one moment.

    Attributes:
        states: number of jobs by state, every state named.
        duration_counts: succeeded jobs by duration, one count per bucket and one for +Inf, not cumulated.
        duration_sum: seconds that those took together.
        queued_seconds: how long the job waits that has waited longest; 0 when none does.
        silent_seconds: how long the running job has been silent that has been so longest; 0 when none runs.
        peak_bytes: memory of the latest trainer of each model.
    """

    states: dict[str, int]
    duration_counts: Sequence[int]
    duration_sum: float
    queued_seconds: float
    silent_seconds: float
    peak_bytes: dict[str, int]


class JobFiguresReader:
    """Reads the figures; a look costs what has changed since the last one, not what was ever done."""

    def __init__(self, jobs: JobQueue, engine: sa.Engine, clock: Callable[[], float]) -> None:
        self._jobs, self._clock = jobs, clock
        self._reader = reader_of(engine)
        self._memory = TrainerMemory(engine)
        self._finished: dict[str, JobTimes] = {}

    def read(self) -> JobFigures:
        """Reads the stores; from one thread at a time.

        Raises:
            JobsUnavailable: when the job database cannot be reached; SQLAlchemyError when the other one cannot.
        """
        latest = max((job.finished_at or 0.0 for job in self._finished.values()), default=0.0)
        found = self._jobs.times(finished_after=max(0.0, latest - OVERLAP_SECONDS))
        finished = {job.job: job for job in found if job.finished_at is not None}
        # One that finished between the two looks of `times` is in both.
        active = {job.job: job for job in found if job.job not in finished}
        kept = {name: job for name, job in self._finished.items() if name not in active}  # others were resumed
        self._finished = kept | finished
        reported = self._reported([job.job for job in active.values() if job.state == "running"])
        jobs = [*self._finished.values(), *active.values()]
        return figures_of(jobs, reported, self._memory.latest_peaks(), self._clock())

    def _reported(self, jobs: list[str]) -> dict[str, float]:
        """When each running job last wrote its progress, in Unix seconds."""
        query = sa.select(progress_table.c.job, progress_table.c.updated_at).where(progress_table.c.job.in_(jobs))
        with self._reader.begin() as connection:
            return {job: datetime.fromisoformat(text).timestamp() for job, text in connection.execute(query)}


def figures_of(
    jobs: Sequence[JobTimes], reported: dict[str, float], peak_bytes: dict[str, int], now: float
) -> JobFigures:
    """Adds up jobs. `reported`: when each running one last wrote its progress, in Unix seconds, as is `now`.

    Only durations of succeeded jobs are added up: no job leaves that state, so that their count never falls and
    `rate()` stays right. A failed or cancelled one may be resumed.
    """
    counts, total = [0] * (len(DURATION_SECONDS) + 1), 0.0
    for job in jobs:
        if job.state == "succeeded" and job.started_at is not None and job.finished_at is not None:
            seconds = max(0.0, job.finished_at - job.started_at)
            counts[bisect_left(DURATION_SECONDS, seconds)] += 1
            total += seconds
    silent = [
        now - max(job.started_at or job.created_at, reported.get(job.job, 0)) for job in jobs if job.state == "running"
    ]
    return JobFigures(
        states=dict.fromkeys(STATES, 0) | Counter(job.state for job in jobs),
        duration_counts=counts,
        duration_sum=total,
        queued_seconds=max((now - job.created_at for job in jobs if job.state == "queued"), default=0.0),
        silent_seconds=max(silent, default=0.0),
        peak_bytes=peak_bytes,
    )
