"""The trainer: one process per job, in which everything heavy of it happens. It dies with its worker."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from models.artifact import open_artifact
from models.database import open_database
from models.errors import CorruptVersion, VitrineError
from service.jobs.progress import JobProgress
from service.processes import hold_lifeline
from service.settings import read_settings

logger = logging.getLogger("vitrine.trainer")


def version_directory(versions: Path, model: str, job: str) -> Path:
    return versions / model / job


def main() -> None:
    """`python -m service.jobs.trainer JOB SPEC RESULT_FD`: builds the version and writes its result to the pipe."""
    hold_lifeline()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    job, document, descriptor = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    try:
        result = train(job, document)
    except VitrineError as error:
        logger.error("%s", error)
        result = {"error": {"title": "The data and the specification do not fit", "detail": str(error)}}
    except Exception as error:
        logger.exception("the job failed")
        detail = f"{type(error).__name__}: {error}. The job's log has the details."
        result = {"error": {"title": "Training failed", "detail": detail}}
    with os.fdopen(descriptor, "w") as pipe:
        json.dump(result, pipe)


def train(job: str, document: dict[str, Any]) -> dict[str, Any]:
    """Builds the version of a job, or takes the one that an earlier attempt finished. Returns task and gates."""
    settings = read_settings(os.environ)
    directory = version_directory(settings.versions_directory, document["model"], job)
    try:
        card = open_artifact(directory).card
        logger.info("an earlier attempt has finished this version")
    except CorruptVersion:
        card = _build(job, document, directory, JobProgress(open_database(settings.registry_url)))
    return {"task": card["task"], "gates": card["gates"]}


def _build(job: str, document: dict[str, Any], directory: Path, progress: JobProgress) -> dict[str, Any]:
    progress.write(job, "loading")
    # Imported here: TensorFlow takes seconds, and the first step should show before.
    from models.building import Reporter, build_version
    from models.spec import parse_spec
    from models.training import EpochReport

    def report_epoch(report: EpochReport) -> None:
        figures = {
            "epoch": report.epoch,
            "epochs": report.epochs,
            "metrics": report.metrics,
            "seconds_left": report.seconds_left,
        }
        progress.write(job, "fitting", figures)

    def report_step(step: str) -> None:
        logger.info("%s", step)
        progress.write(job, step)

    return build_version(parse_spec(document), directory, Reporter(report_step, report_epoch))


if __name__ == "__main__":
    main()
