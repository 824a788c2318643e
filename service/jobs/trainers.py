"""The trainer processes of a worker: started, watched, stopped, and their ends put into words."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TypeVar

from dbos import DBOS, PortableWorkflowError, error

from models.attempts import Attempts
from models.errors import Overtaken
from service.jobs.gpus import GpuSlots
from service.jobs.limits import Limits, limits_of, resident_bytes
from service.jobs.patience import patiently
from service.processes import forget_child, start_child
from service.settings import Settings

logger = logging.getLogger("vitrine.worker")

MAX_CRASHES = 2
"""Trainers of a job that may be killed from outside before the job fails; the next goes on from the checkpoint."""

Ending = Literal["cancelled", "overtaken", "stopping", "out-of-time", "out-of-memory"]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TrialOf:
    """A trial of a job's search."""

    job: str
    number: int


@dataclass
class _Running:
    work: str
    """The workflow that it works for: a job, or a trial of one."""
    attempt: int
    process: subprocess.Popen[bytes]
    result: int
    """The reading end of the pipe on which the trainer says how it went."""
    limits: Limits
    started: float
    """By the clock of `Trainers`."""
    ending: Ending | None = None


class Trainers:
    def __init__(
        self,
        settings: Settings,
        attempts: Attempts,
        gpus: GpuSlots,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.settings, self._attempts, self._gpus, self._clock = settings, attempts, gpus, clock
        self._running: list[_Running] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self, work: str, spec: dict[str, Any], trial: TrialOf | None = None) -> dict[str, Any]:
        """Runs a trainer to its end and returns its result, with the number of the attempt.

        Args:
            work: the workflow that it works for; a job's has the job's name.
            trial: which trial it is to run, in place of building the version.

        Raises:
            PortableWorkflowError: with a problem document, when the job cannot succeed.
            DBOSWorkflowCancelledError, DBOSWorkflowConflictIDError: when the job is cancelled, or another worker's by
                now; DBOS then leaves its state as it is.
        """
        job = trial.job if trial else work
        log = self.settings.logs_directory / "jobs" / f"{job}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        crashes = 0
        while True:
            with self._gpus.taken() as gpu:
                attempt = patiently(lambda: self._attempts.begin(work, self.settings.worker_name), "the registry")
                running = self._start(work, attempt, spec, trial, log, gpu)
                text = self._wait(running)
            if text:
                return _result(work, attempt, text)
            crashes += 1
            status = running.process.returncode
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            logger.warning("job %s: the trainer of attempt %d %s", work, attempt, how)
            if crashes == MAX_CRASHES:
                detail = f"The trainer process {how}, {crashes} times (out of memory?). /train/{job}/logs tells more."
                raise job_failed("The trainer process ended early", f"{detail} Resume goes on from its checkpoint.")

    def unless_overtaken(self, job: str, action: Callable[[], Result]) -> Result:
        """Does what only the latest attempt may do; for any other, DBOS waits for what the latest one records."""
        try:
            return action()
        except Overtaken as overtaken:
            logger.warning("%s", overtaken)
            raise error.DBOSWorkflowConflictIDError(job) from overtaken

    def watch(self) -> None:
        """Ends the trainers of jobs that were cancelled, or that another worker has taken over."""
        with self._lock:
            running = list(self._running)
        if not running:
            return
        for one in running:
            # Before the databases are asked, which may be away.
            if ending := one.limits.exceeded(self._clock() - one.started, resident_bytes(one.process.pid)):
                self._end(one, ending)
        works = [one.work for one in running]
        cancelled = {
            status.workflow_id
            for status in DBOS.list_workflows(
                workflow_ids=works, status="CANCELLED", load_input=False, load_output=False
            )
        }
        latest = self._attempts.latest(works)
        for one in running:
            if latest[one.work].number > one.attempt:
                self._end(one, "overtaken")
            elif one.work in cancelled:
                self._end(one, "cancelled")

    def stop(self) -> int:
        """Ends every trainer, whose jobs then go on elsewhere or at the next start. Returns how many there were."""
        self._stopping.set()
        with self._lock:
            running = list(self._running)
        for one in running:
            self._end(one, "stopping")
        return len(running)

    def _start(
        self, work: str, attempt: int, spec: dict[str, Any], trial: TrialOf | None, log: Path, gpu: dict[str, str]
    ) -> _Running:
        reading, writing = os.pipe()
        try:
            process = start_child(
                "service.jobs.trainer",
                [
                    work,
                    str(attempt),
                    json.dumps(spec),
                    str(writing),
                    *([trial.job, str(trial.number)] if trial else []),
                ],
                environment={**self.settings.to_environment(), "TF_CPP_MIN_LOG_LEVEL": "2", **gpu},
                log=log,
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        running = _Running(work, attempt, process, reading, limits_of(spec, self.settings), self._clock())
        with self._lock:
            self._running.append(running)
        return running

    def _wait(self, running: _Running) -> str:
        """What the trainer has written when it ended; empty when it did not get so far."""
        with os.fdopen(running.result) as pipe:
            text = pipe.read()
        running.process.wait()
        forget_child(running.process)
        with self._lock:
            self._running.remove(running)
        if self._stopping.is_set():
            # The worker is going down and has ended the trainer. This step must not return: the job stays as it is,
            # and the next worker takes it up again.
            threading.Event().wait()
        if running.ending == "cancelled":
            raise error.DBOSWorkflowCancelledError(f"Job {running.work} was cancelled.")
        if running.ending == "overtaken":
            raise error.DBOSWorkflowConflictIDError(running.work)
        if running.ending in ("out-of-time", "out-of-memory") and not text:
            raise job_failed(*running.limits.in_words(running.ending))
        return text

    def _end(self, running: _Running, ending: Ending) -> None:
        if running.ending is None:
            logger.info("job %s: ending the trainer of attempt %d (%s)", running.work, running.attempt, ending)
            running.ending = ending
            # At once: what counts is in the last checkpoint, and a version is written aside until it is whole.
            running.process.send_signal(signal.SIGKILL)


def _result(work: str, attempt: int, text: str) -> dict[str, Any]:
    result = json.loads(text)
    if "overtaken" in result:
        raise error.DBOSWorkflowConflictIDError(work)
    if "error" in result:
        raise job_failed(**result["error"])
    return {**result, "attempt": attempt}


def job_failed(title: str, detail: str) -> PortableWorkflowError:
    problem = {"type": "/problems/job-failed", "title": title, "status": 500, "detail": detail}
    return PortableWorkflowError(detail, "JobFailed", data=problem)
