"""The trainer: one process per attempt of a job, in which everything heavy of it happens. It dies with its worker."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from models.artifact import open_artifact
from models.attempts import Attempts
from models.checkpoint import discard_checkpoints
from models.database import open_database
from models.errors import (
    CorruptVersion,
    DiskFull,
    InvalidDataset,
    InvalidSpec,
    LossNotFinite,
    ModelDoesNotFit,
    NoGpu,
    NotEnoughMemory,
    Overtaken,
    UnsafeModelFile,
    VitrineError,
)
from service.jobs.memory import TrainerMemory
from service.jobs.patience import patiently
from service.jobs.progress import JobProgress
from service.logs import add_to_context, configure_logging
from service.processes import hold_lifeline
from service.settings import Settings, read_settings

logger = logging.getLogger("vitrine.trainer")

PROGRESS_SECONDS = 0.25
"""Epochs that are shorter are not each written down."""
AWAY_SECONDS = 5.0
"""Epochs that are not written down after the database could not be reached."""


def version_directory(versions: Path, model: str, job: str) -> Path:
    return versions / model / job


def main() -> None:
    """`python -m service.jobs.trainer JOB ATTEMPT SPEC RESULT_FD`: builds the version, says to the pipe how it went."""
    hold_lifeline()
    job, attempt, document, descriptor = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
    settings = read_settings(os.environ)
    configure_logging("trainer", log_format=settings.log_format, log_level=settings.log_level)
    add_to_context(job=job, model=document["model"])
    logger.info("job %s, attempt %d", job, attempt)
    try:
        result = train(job, attempt, document)
    except Overtaken as overtaken:
        logger.warning("%s", overtaken)
        result = {"overtaken": True}
    except Exception as error:
        logger.exception("the job failed")
        result = {"error": in_words(error)}
    with os.fdopen(descriptor, "w") as pipe:
        json.dump(result, pipe)


def train(job: str, attempt: int, document: dict[str, Any]) -> dict[str, Any]:
    """Builds the version of a job, or takes the one that an earlier attempt finished. Returns task and gates.

    Raises:
        Overtaken: when a later attempt has begun.
    """
    settings = read_settings(os.environ)
    directory = version_directory(settings.versions_directory, document["model"], job)
    checkpoints = settings.checkpoints_directory / job
    try:
        card = open_artifact(directory).card
        logger.info("an earlier attempt has finished this version")
    except CorruptVersion:
        _build(job, attempt, document, directory, settings, checkpoints)
        # Read back: where another attempt was first, its version is the one.
        card = open_artifact(directory).card
    discard_checkpoints(checkpoints)
    return {"task": card["task"], "gates": card["gates"]}


def _build(
    job: str, attempt: int, document: dict[str, Any], directory: Path, settings: Settings, checkpoints: Path
) -> None:
    attempts = Attempts(open_database(settings.registry_url))
    impatient = open_database(settings.registry_url, lock_wait_ms=1000)
    reports = ProgressReports(JobProgress(impatient), job, monotonic)
    reports.step("loading")
    # Imported here: TensorFlow takes seconds, and the first step should show before.
    from models.building import Reporter, build_version
    from models.importing.keras_file import stored_file
    from models.importing.version import import_version
    from models.spec import parse_spec
    from models.spec.importing import parse_import
    from models.training import EpochReport

    def report_epoch(report: EpochReport) -> None:
        figures = {
            "epoch": report.epoch,
            "epochs": report.epochs,
            "metrics": report.metrics,
            "seconds_left": report.seconds_left,
            **({"fold": report.fold, "folds": report.folds} if report.fold else {}),
            **({"warning": report.warning} if report.warning else {}),
        }
        reports.epoch(figures, last=report.epoch == report.epochs)

    def fence() -> None:
        patiently(lambda: attempts.check(job, attempt), "the registry")

    fence()
    with TrainerMemory(impatient).noted(job, document["model"]):
        reporter = Reporter(reports.step, report_epoch, fence=fence)
        if "file" in document:
            imported = parse_import(document)
            import_version(imported, stored_file(settings.imports_directory, imported.file), directory, reporter)
        else:
            build_version(parse_spec(document), directory, reporter, checkpoints)


class ProgressReports:
    """Writes down how far a job is, at most so often. A database that is away costs a report, never the training."""

    def __init__(self, progress: JobProgress, job: str, clock: Callable[[], float]) -> None:
        self._progress, self._job, self._clock = progress, job, clock
        self._next_at = clock()

    def step(self, step: str) -> None:
        logger.info("%s", step)
        self._write(step, None)

    def epoch(self, figures: dict[str, Any], *, last: bool) -> None:
        if last or self._clock() >= self._next_at:
            self._write("fitting", figures)

    def _write(self, step: str, figures: dict[str, Any] | None) -> None:
        try:
            self._progress.write(self._job, step, figures)
            self._next_at = self._clock() + PROGRESS_SECONDS
        except SQLAlchemyError as error:
            logger.warning("progress was not written down: %s", type(error).__name__)
            self._next_at = self._clock() + AWAY_SECONDS


def in_words(error: Exception) -> dict[str, str]:
    """Why a job failed, as title and detail that its user can act on."""
    match error:
        case InvalidSpec() | InvalidDataset():
            return {"title": "The data and the specification do not fit", "detail": str(error)}
        case LossNotFinite():
            return {"title": "The loss is not a finite number", "detail": str(error)}
        case DiskFull():
            return {"title": "The disk is full", "detail": str(error)}
        case NotEnoughMemory():
            return {"title": "Not enough memory", "detail": str(error)}
        case NoGpu():
            return {"title": "There is no GPU", "detail": str(error)}
        case UnsafeModelFile() | ModelDoesNotFit():
            return {"title": "The model cannot be imported", "detail": str(error)}
        case VitrineError():
            return {"title": "Training failed", "detail": str(error)}
        # TensorFlow's own: of a GPU, or of an allocation that the system refused. Not imported for its name alone.
        case _ if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            detail = "The memory of this machine was not enough. Lower training.batch_size or the width of the layers."
            return {"title": "Out of memory", "detail": f"{detail} Then resume the job, or train anew."}
        case OSError(errno=errno.ENOSPC):
            where = f" ({error.filename})" if error.filename else ""
            return {
                "title": "The disk is full",
                "detail": f"The disk is full{where}. Free some space and resume the job.",
            }
        case _:
            detail = f"{type(error).__name__}: {error}. GET /train/<job>/logs has the details; resume tries again."
            return {"title": "Training failed", "detail": detail}


if __name__ == "__main__":
    main()
