"""The durable workflow of a training job. A step that has returned is never run again."""

from __future__ import annotations

import logging
from typing import Any

from dbos import DBOS

from models.database import open_database
from models.registry import Registry
from service.jobs.patience import patiently
from service.jobs.progress import JobProgress
from service.jobs.queue import WORKFLOW
from service.jobs.trainer import version_directory
from service.jobs.trainers import Trainers
from service.logs import log_context

logger = logging.getLogger("vitrine.worker")


def define_workflows(trainers: Trainers) -> None:
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
    def promote(job: str, spec: dict[str, Any], version: int, built: dict[str, Any]) -> bool:
        def promoted() -> bool:
            progress.write(job, "gating")
            if spec["promote"] == "never":
                return False
            return registry.promote(model=spec["model"], version=version, job=job, attempt=built["attempt"])

        return trainers.unless_overtaken(job, lambda: patiently(promoted, "the registry"))

    @DBOS.workflow(name=WORKFLOW)
    def train(job: str, spec: dict[str, Any]) -> dict[str, Any]:
        with log_context(job=job, model=spec["model"]):
            logger.info("job %s: training %s", job, spec["model"])
            built = build(job, spec)
            version = register(job, spec, built)
            promoted = promote(job, spec, version, built)
            logger.info("job %s: version %d of %s%s", job, version, spec["model"], ", promoted" if promoted else "")
            return {
                "version": version,
                "promoted": promoted,
                "gates": built["gates"],
                "changes": built.get("changes", []),
            }
