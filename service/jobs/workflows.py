"""The durable workflow of a training job. A step that has returned is never run again."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from dbos import DBOS

from models.database import open_database
from models.registry import Registry
from service.jobs.patience import patiently
from service.jobs.progress import JobProgress
from service.jobs.queue import WORKFLOW
from service.jobs.schedules import WORKFLOW as SCHEDULED
from service.jobs.schedules import Schedules
from service.jobs.trainer import version_directory
from service.jobs.trainers import Trainers
from service.logs import log_context

logger = logging.getLogger("vitrine.worker")

MAX_COMPARISONS = 5
"""With champions that move while a version is compared with them; then it is not promoted, and that is recorded."""


def define_workflows(trainers: Trainers, schedules: Schedules) -> None:
    """Registers the workflow with DBOS, under names that outlive refactorings."""
    versions = trainers.settings.versions_directory
    engine = open_database(trainers.settings.registry_url)
    registry, progress = Registry(engine), JobProgress(engine)

    @DBOS.step(name="build")
    def build(job: str, spec: dict[str, Any]) -> dict[str, Any]:
        return trainers.run(job, spec)

    @DBOS.step(name="register")
    def register(job: str, spec: dict[str, Any], built: dict[str, Any]) -> int:
        def registered() -> int:
            progress.write(job, "registering")
            return registry.register(
                model=spec["model"],
                job=job,
                directory=str(version_directory(versions, spec["model"], job)),
                task=built["task"],
                gates=built["gates"],
                attempt=built["attempt"],
            )

        return trainers.unless_overtaken(job, lambda: patiently(registered, "the registry"))

    @DBOS.step(name="promote")
    def promote(job: str, spec: dict[str, Any], version: int, built: dict[str, Any], *, final: bool) -> bool | None:
        def promoted() -> bool | None:
            progress.write(job, "gating")
            if spec["promote"] == "never":
                return False
            return registry.promote(
                model=spec["model"],
                version=version,
                job=job,
                gates=built["gates"],
                attempt=built["attempt"],
                final=final,
            )

        return trainers.unless_overtaken(job, lambda: patiently(promoted, "the registry"))

    @DBOS.step(name="submit")
    def submit(at: str, context: dict[str, Any]) -> dict[str, Any]:
        return patiently(lambda: schedules.run(at, context), "the registry").to_json()

    @DBOS.workflow(name=SCHEDULED)
    def scheduled(at: datetime | str, context: dict[str, Any]) -> dict[str, Any]:
        with log_context(model=context["model"]):
            run = submit(at if isinstance(at, str) else at.isoformat(), context)
            logger.info("the scheduled training of %s: %s", context["model"], run["job"] or run["detail"])
            return run

    @DBOS.workflow(name=WORKFLOW)
    def train(job: str, spec: dict[str, Any]) -> dict[str, Any]:
        with log_context(job=job, model=spec["model"]):
            logger.info("job %s: training %s", job, spec["model"])
            built = build(job, spec)
            version = register(job, spec, built)
            promoted = promote(job, spec, version, built, final=False)
            for comparison in range(2, MAX_COMPARISONS + 1):
                if promoted is not None:
                    break
                # The champion has moved since: the next trainer takes the version as it is, and compares again.
                logger.info("job %s: the champion is another one now, comparing again", job)
                built = build(job, spec)
                promoted = promote(job, spec, version, built, final=comparison == MAX_COMPARISONS)
            logger.info("job %s: version %d of %s%s", job, version, spec["model"], ", promoted" if promoted else "")
            return {"version": version, "promoted": bool(promoted), "gates": built["gates"]}
