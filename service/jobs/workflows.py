"""The durable workflow of a training job. A step that has returned is never run again."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from dbos import DBOS, PortableWorkflowError

from models.attempts import Attempts
from models.database import open_database
from models.registry import Registry
from models.search.trials import Trials
from service.jobs.patience import patiently
from service.jobs.progress import JobProgress
from service.jobs.queue import APPLICATION_VERSION, PRIORITIES, TRIAL_WORKFLOW, TRIALS_QUEUE, WORKFLOW
from service.jobs.schedules import WORKFLOW as SCHEDULED
from service.jobs.schedules import Schedules
from service.jobs.trainer import version_directory
from service.jobs.trainers import Trainers, TrialOf
from service.logs import log_context

logger = logging.getLogger("vitrine.worker")

MAX_COMPARISONS = 5
"""With champions that move while a version is compared with them; then it is not promoted, and that is recorded."""


def define_workflows(trainers: Trainers, schedules: Schedules) -> None:
    """Registers the workflow with DBOS, under names that outlive refactorings."""
    versions = trainers.settings.versions_directory
    engine = open_database(trainers.settings.registry_url)
    registry, progress, attempts = Registry(engine), JobProgress(engine), Attempts(engine)

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

    @DBOS.step(name="begin-search")
    def begin_search(job: str, spec: dict[str, Any]) -> int:
        """The number of this round: a resumed job begins a new one, where trials that have ended stay as they are."""
        figures = {"trials": spec["search"]["trials"], "done": 0}
        patiently(lambda: progress.write(job, "searching", figures), "the registry")
        return patiently(lambda: attempts.begin(f"{job}-search", trainers.settings.worker_name), "the registry")

    @DBOS.step(name="try")
    def try_out(work: str, job: str, number: int, spec: dict[str, Any]) -> dict[str, Any]:
        return trainers.run(work, spec, TrialOf(job, number))

    @DBOS.step(name="give-up")
    def give_up(job: str, number: int, reason: str) -> None:
        patiently(lambda: Trials(engine, job).end(number, "failed", reason=reason), "the registry")

    @DBOS.workflow(name=TRIAL_WORKFLOW)
    def trial(job: str, number: int, spec: dict[str, Any]) -> None:
        with log_context(job=job, model=spec["model"]):
            work = DBOS.workflow_id
            assert work is not None
            try:
                try_out(work, job, number, spec)
            except PortableWorkflowError as failure:
                # One specification that cannot be fitted is no reason to end the search.
                logger.warning("job %s: trial %d failed: %s", job, number, failure)
                give_up(job, number, str(failure))

    def search(job: str, spec: dict[str, Any]) -> None:
        """Runs every trial, on whichever workers have room, and waits for them."""
        round_number = begin_search(job, spec)
        trials = [
            DBOS.enqueue_workflow_with_options(
                {
                    "queue_name": TRIALS_QUEUE,
                    "workflow_name": TRIAL_WORKFLOW,
                    "workflow_id": f"{job}-trial-{round_number}-{number}",
                    "app_version": APPLICATION_VERSION,
                    "priority": PRIORITIES[spec["priority"]],
                },
                job,
                number,
                spec,
            )
            for number in range(spec["search"]["trials"])
        ]
        for one in trials:
            one.get_result()

    @DBOS.workflow(name=WORKFLOW)
    def train(job: str, spec: dict[str, Any]) -> dict[str, Any]:
        with log_context(job=job, model=spec["model"]):
            logger.info("job %s: training %s", job, spec["model"])
            if spec.get("search"):
                search(job, spec)
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
            return {
                "version": version,
                "promoted": bool(promoted),
                "gates": built["gates"],
                "changes": built.get("changes", []),
            }
