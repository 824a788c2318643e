"""The durable workflow of a training job. A step that has returned is never run again."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from dataclasses import dataclass, field
from typing import Any

from dbos import DBOS, PortableWorkflowError

from models.registry import CHAMPION, Registry
from service.jobs.progress import JobProgress
from service.jobs.queue import WORKFLOW
from service.jobs.trainer import version_directory
from service.processes import forget_child, start_child
from service.settings import Settings

logger = logging.getLogger("vitrine.worker")


@dataclass
class Trainers:
    """The trainer processes of this worker."""

    settings: Settings
    stopping: threading.Event = field(default_factory=threading.Event)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, job: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Runs a trainer to its end and returns its result.

        Raises:
            PortableWorkflowError: with a problem document, when the job cannot succeed.
        """
        reading, writing = os.pipe()
        log = self.settings.logs_directory / "jobs" / f"{job}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            process = start_child(
                "service.jobs.trainer",
                [job, json.dumps(spec), str(writing)],
                environment={**self.settings.to_environment(), "TF_CPP_MIN_LOG_LEVEL": "2"},
                log=log,
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        self.running[job] = process
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        status = process.wait()
        forget_child(process)
        self.running.pop(job, None)
        if self.stopping.is_set():
            # The worker is going down and has ended the trainer. This step must not return: the job stays as it is,
            # and the next worker takes it up again.
            threading.Event().wait()
        if not text:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            detail = f"The trainer process {how} before it finished (out of memory?). Its log: {log}"
            raise job_failed("The trainer process ended early", detail)
        result = json.loads(text)
        if "error" in result:
            raise job_failed(**result["error"])
        return result

    def stop(self) -> None:
        """Ends every trainer; their jobs go on when a worker starts again."""
        self.stopping.set()
        for process in list(self.running.values()):
            process.kill()


def job_failed(title: str, detail: str) -> PortableWorkflowError:
    problem = {"type": "/problems/job-failed", "title": title, "status": 500, "detail": detail}
    return PortableWorkflowError(detail, "JobFailed", data=problem)


def define_workflows(trainers: Trainers, registry: Registry, progress: JobProgress) -> None:
    """Registers the workflow with DBOS, under a name that outlives refactorings."""
    versions = trainers.settings.versions_directory

    @DBOS.step(name="build")
    def build(job: str, spec: dict[str, Any]) -> dict[str, Any]:
        return trainers.run(job, spec)

    @DBOS.step(name="register")
    def register(job: str, spec: dict[str, Any], built: dict[str, Any]) -> int:
        progress.write(job, "registering")
        return registry.register(
            model=spec["model"],
            job=job,
            directory=str(version_directory(versions, spec["model"], job)),
            task=built["task"],
            gates=built["gates"],
        )

    @DBOS.step(name="promote")
    def promote(job: str, spec: dict[str, Any], version: int, gates: list[dict[str, Any]]) -> bool:
        progress.write(job, "gating")
        if spec["promote"] == "never" or not all(gate["passed"] for gate in gates):
            return False
        registry.move_alias(spec["model"], CHAMPION, str(version), by=f"job {job}", reason="gates passed")
        return True

    @DBOS.workflow(name=WORKFLOW)
    def train(job: str, spec: dict[str, Any]) -> dict[str, Any]:
        logger.info("job %s: training %s", job, spec["model"])
        built = build(job, spec)
        version = register(job, spec, built)
        promoted = promote(job, spec, version, built["gates"])
        logger.info("job %s: version %d of %s%s", job, version, spec["model"], ", promoted" if promoted else "")
        return {"version": version, "promoted": promoted, "gates": built["gates"]}
