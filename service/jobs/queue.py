"""The API's side of jobs: it enqueues and looks, and runs nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, PortableWorkflowError, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from models.spec import TrainingSpec
from service.errors import JobsUnavailable, UnknownJob
from service.identifiers import new_id
from service.jobs.progress import JobProgress

APPLICATION = "vitrine"
APPLICATION_VERSION = "1"
"""Constant: DBOS recovers a job only under the application version that started it."""
QUEUE = "training"
WORKFLOW = "train"

_STATES = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "succeeded",
    "CANCELLED": "cancelled",
}
"""DBOS's states in our words; every other one (ERROR, too many recoveries) is "failed"."""


def prepare_jobs_database(url: str) -> None:
    """Creates or migrates the job database, and puts SQLite into WAL mode, which DBOS leaves alone."""
    logging.getLogger("dbos").setLevel(logging.WARNING)
    DBOS.migrate(url)
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        engine.dispose()


class JobQueue:
    def __init__(self, url: str, progress: JobProgress) -> None:
        self._progress = progress
        self._client = DBOSClient(
            system_database_url=url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            lazy=True,
            retry_connection_errors=False,
        )

    def close(self) -> None:
        self._client.destroy()

    def submit(self, spec: TrainingSpec) -> dict[str, Any]:
        """Accepts a job: when this returns, it is stored. Returns the job document."""
        job = new_id()
        with _translated_errors():
            self._client.enqueue(
                {
                    "queue_name": QUEUE,
                    "workflow_name": WORKFLOW,
                    "workflow_id": job,
                    "app_version": APPLICATION_VERSION,
                    "attributes": {"model": spec.model},
                },
                job,
                spec.model_dump(mode="json"),
            )
        return self.job(job)

    def job(self, job: str) -> dict[str, Any]:
        """The document of one job. Raises `UnknownJob`."""
        with _translated_errors():
            found = self._client.list_workflows(workflow_ids=[job], name=WORKFLOW)
            if not found:
                latest = self._client.list_workflows(name=WORKFLOW, limit=5, sort_desc=True, load_output=False)
                raise UnknownJob(job, [status.workflow_id for status in latest])
        return _document(found[0], self._progress.read([job]).get(job))

    def jobs(self, *, limit: int, model: str | None = None) -> list[dict[str, Any]]:
        """Documents of the latest jobs, newest first."""
        with _translated_errors():
            attributes = {"model": model} if model else None
            found = self._client.list_workflows(name=WORKFLOW, limit=limit, sort_desc=True, attributes=attributes)
        progress = self._progress.read([status.workflow_id for status in found])
        return [_document(status, progress.get(status.workflow_id)) for status in found]


def _document(status: WorkflowStatus, progress: tuple[str, dict[str, Any] | None] | None) -> dict[str, Any]:
    assert status.input is not None
    job, spec = status.input["args"]
    state = _STATES.get(status.status, "failed")
    step, figures = progress or (None, None)
    outcome = status.output if state == "succeeded" else {}
    return {
        "job": job,
        "model": spec["model"],
        "status": state,
        "step": step,
        "progress": figures,
        "attempt": status.recovery_attempts or 0,
        "created_at": _time(status.created_at),
        "started_at": _time(status.dequeued_at),
        "finished_at": _time(status.completed_at),
        "version": (outcome or {}).get("version"),
        "promoted": (outcome or {}).get("promoted"),
        "gates": (outcome or {}).get("gates", []),
        "error": _problem(status) if state == "failed" else None,
        "spec": spec,
        "links": {"self": f"/train/{job}", "model": f"/models/{spec['model']}"},
    }


def _problem(status: WorkflowStatus) -> dict[str, Any]:
    error = status.error
    if isinstance(error, PortableWorkflowError) and isinstance(error.data, dict):
        return error.data
    detail = str(error) if error else "The job was given up after too many restarts."
    return {"type": "/problems/job-failed", "title": "The job failed", "status": 500, "detail": detail}


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise JobsUnavailable(
            "The job database cannot be reached. Look at GET /train before sending a job again."
        ) from error
