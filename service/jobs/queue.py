"""The API's side of jobs: it enqueues and looks, and runs nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import sqlalchemy.orm  # see JobQueue
from sqlalchemy.exc import SQLAlchemyError

from models.attempts import Attempt, Attempts
from models.database import in_rfc_3339
from models.search.trials import Trials
from models.spec import TrainingSpec
from models.spec.importing import ImportSpec
from models.spec.running import Priority
from service.errors import JobStateConflict, JobsUnavailable, UnknownJob
from service.identifiers import created_at, new_id
from service.jobs.progress import JobEvent, JobProgress
from service.jobs.requests import JobRequests, KeyedJob

if TYPE_CHECKING:
    from dbos import DBOSClient, WorkflowStatus

APPLICATION = "vitrine"
APPLICATION_VERSION = "1"
"""Constant: DBOS recovers a job only under the application version that started it."""
QUEUE, TRIALS_QUEUE = "training", "trials"
WORKFLOW, TRIAL_WORKFLOW = "train", "trial"

PRIORITIES: dict[Priority, int] = {"high": 1, "normal": 2, "low": 3}
"""In DBOS's numbers: a lower one goes first; of two that are equal, the one that came first."""

_STATES = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "succeeded",
    "CANCELLED": "cancelled",
}
"""DBOS's states in our words; every other one (ERROR, too many recoveries) is "failed"."""

FINISHED = ("succeeded", "failed", "cancelled")


def _prepare(url: str) -> None:
    """Creates or migrates the job database, and puts SQLite into WAL mode, which DBOS leaves alone."""
    from dbos import DBOS

    logging.getLogger("dbos").setLevel(logging.WARNING)
    DBOS.migrate(url)
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        engine.dispose()


@dataclass(frozen=True, slots=True)
class JobTimes:
    """State and times of a job, in Unix seconds; `finished_at` is None for one that waits or runs."""

    job: str
    state: str
    created_at: float
    started_at: float | None
    finished_at: float | None


class JobQueue:
    """The jobs. Their database is opened when it is first needed, or by `open`: importing DBOS and what it needs takes
    a quarter of a second, which predictions need not wait for when a server starts.

    DBOS is imported while other threads use SQLAlchemy, whose object-relational part changes, as it is imported, how
    every value of every query is looked at: queries fail until it is whole. So that part is imported with this module.
    """

    def __init__(self, url: str, engine: sa.Engine) -> None:
        self._url, self._engine = url, engine
        self._progress, self._requests, self._attempts = JobProgress(engine), JobRequests(engine), Attempts(engine)
        self._opening, self._opened = Lock(), None

    def open(self) -> DBOSClient:
        """Creates or migrates the database, where that has not been done. Raises `JobsUnavailable`."""
        with self._opening, translated_errors():
            if self._opened is None:
                from dbos import DBOSClient, DBOSPortableJSONSerializer

                _prepare(self._url)
                self._opened = DBOSClient(
                    system_database_url=self._url,
                    serializer=DBOSPortableJSONSerializer(),
                    application_name=APPLICATION,
                    lazy=True,
                    retry_connection_errors=False,
                )
            return self._opened

    def close(self) -> None:
        with self._opening:
            if self._opened is not None:
                self._opened.destroy()

    @property
    def _client(self) -> DBOSClient:
        return self._opened or self.open()

    def submit(
        self, spec: TrainingSpec | ImportSpec, document: Any, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Accepts a job: when this returns, it is stored. Returns the job document.

        Args:
            document: the request as it came, by which a repeated one is recognised.
            idempotency_key: the same key and document give the same job, however often they are sent.

        Raises:
            IdempotencyKeyReused: when the key came with another document.
            JobsUnavailable: when a database cannot be reached.
        """
        with translated_errors():
            job = self._requests.accept(new_id(), spec.model, document, idempotency_key)
            # Under the name of the job, so that asking again for one that is stored changes nothing.
            self._client.enqueue(
                {
                    "queue_name": QUEUE,
                    "workflow_name": WORKFLOW,
                    "workflow_id": job,
                    "app_version": APPLICATION_VERSION,
                    "priority": PRIORITIES[spec.priority],
                },
                job,
                spec.model_dump(mode="json"),
            )
        return self.job(job)

    def job(self, job: str) -> dict[str, Any]:
        """The document of one job. Raises `UnknownJob`."""
        with translated_errors():
            found = self._client.list_workflows(workflow_ids=[job], name=WORKFLOW)
            if not found:
                latest = self._client.list_workflows(name=WORKFLOW, limit=5, sort_desc=True, load_output=False)
                raise UnknownJob(job, [status.workflow_id for status in latest])
            return self._documents(found)[0]

    def jobs(self, *, limit: int, model: str | None = None) -> list[dict[str, Any]]:
        """Documents of the latest jobs, newest first."""
        with translated_errors():
            if model is None:
                found = self._client.list_workflows(name=WORKFLOW, limit=limit, sort_desc=True)
            else:
                chosen = self._requests.latest(model, limit)
                found = (
                    self._client.list_workflows(name=WORKFLOW, workflow_ids=chosen, sort_desc=True) if chosen else []
                )
            return self._documents(found)

    def latest_by_key(self, prefix: str) -> KeyedJob | None:
        """The latest job that was submitted under an idempotency key that begins so."""
        with translated_errors():
            return self._requests.latest_by_key(prefix)

    def unfinished(self) -> list[dict[str, Any]]:
        """Documents of every job that waits or runs."""
        with translated_errors():
            states = ["ENQUEUED", "DELAYED", "PENDING"]
            return self._documents(self._client.list_workflows(name=WORKFLOW, status=states))

    def trials(self, job: str) -> list[dict[str, Any]]:
        """The trials of a job's search that have begun, by number; none for a job that does not search. Raises
        `UnknownJob`."""
        self.job(job)
        with translated_errors():
            return [trial.to_json() for trial in Trials(self._engine, job).all()]

    def cancel(self, job: str) -> dict[str, Any]:
        """Cancels a job that has not finished; its trainer is stopped by its worker. Returns the job document.

        Raises:
            UnknownJob: when there is no such job.
            JobStateConflict: when it has finished.
        """
        self._require(job, "cancel", ("queued", "running"))
        with translated_errors():
            self._client.cancel_workflow(job, cancel_children=True)
        # It may have finished in between: then that is what it did.
        return self._require(job, "cancel", ("cancelled",))

    def resume(self, job: str) -> dict[str, Any]:
        """Queues a failed or cancelled job again; it goes on from its last checkpoint. Returns the job document.

        Raises:
            UnknownJob: when there is no such job.
            JobStateConflict: when it has not failed and was not cancelled.
        """
        from dbos import error

        self._require(job, "resume", ("failed", "cancelled"))
        with translated_errors():
            try:
                # From its first step: what a step did is taken over by the next attempt, its failure is not.
                self._client.rewind_workflow(job, queue_name=QUEUE)
            except error.DBOSException as refusal:
                # Someone else has resumed it at the same time.
                raise JobStateConflict(job, "resume", self.job(job)["status"]) from refusal
        return self.job(job)

    def events(self, job: str, *, after: int) -> tuple[list[JobEvent], bool]:
        """What happened to a job after the event with a number, and whether it has finished. Raises `UnknownJob`."""
        document = self.job(job)
        with translated_errors():
            self._progress.note_status(document)
            return self._progress.events(job, after=after), document["status"] in FINISHED

    def _require(self, job: str, action: str, states: tuple[str, ...]) -> dict[str, Any]:
        document = self.job(job)
        if document["status"] not in states:
            raise JobStateConflict(job, action, document["status"])
        return document

    def _documents(self, found: list[WorkflowStatus]) -> list[dict[str, Any]]:
        # By name: DBOS keeps times on SQLite to the second, and names rise with every job.
        found = sorted(found, key=lambda status: status.workflow_id, reverse=True)
        names = [status.workflow_id for status in found]
        progress, attempts = self._progress.read(names), self._attempts.latest(names)
        return [
            _document(status, progress.get(status.workflow_id), attempts.get(status.workflow_id)) for status in found
        ]

    def times(self, *, finished_after: float = 0.0) -> list[JobTimes]:
        """State and times of each job that waits or runs, and of those that finished after a moment."""
        waiting = ["ENQUEUED", "DELAYED", "PENDING"]
        after = datetime.fromtimestamp(finished_after, UTC).isoformat()
        with translated_errors():
            found = self._client.list_workflows(name=WORKFLOW, status=waiting, load_input=False, load_output=False)
            found += self._client.list_workflows(
                name=WORKFLOW, completed_after=after, load_input=False, load_output=False
            )
        return [_times(status) for status in found]


def _times(status: WorkflowStatus) -> JobTimes:
    created, started, finished = (
        None if milliseconds is None else milliseconds / 1000
        for milliseconds in (status.created_at, status.dequeued_at, status.completed_at)
    )
    return JobTimes(status.workflow_id, _STATES.get(status.status, "failed"), created or 0.0, started, finished)


def _document(
    status: WorkflowStatus, progress: tuple[str, dict[str, Any] | None] | None, attempt: Attempt | None
) -> dict[str, Any]:
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
        "attempt": attempt.number if attempt else 0,
        "created_at": created_at(job),
        "started_at": attempt.began_at if attempt else None,
        "finished_at": _finished_at(status, attempt) if state in FINISHED else None,
        "version": (outcome or {}).get("version"),
        "promoted": (outcome or {}).get("promoted"),
        "gates": (outcome or {}).get("gates", []),
        "changes": (outcome or {}).get("changes", []),
        "error": _problem(status) if state == "failed" else None,
        "spec": spec,
        "links": {
            "self": f"/train/{job}",
            "events": f"/train/{job}/events",
            "logs": f"/train/{job}/logs",
            **({"trials": f"/train/{job}/trials"} if spec.get("search") else {}),
            "model": f"/models/{spec['model']}",
        },
    }


def _problem(status: WorkflowStatus) -> dict[str, Any]:
    from dbos import PortableWorkflowError

    failure = status.error
    if isinstance(failure, PortableWorkflowError) and isinstance(failure.data, dict):
        return failure.data
    detail = str(failure) if failure else "The job was given up after too many restarts."
    return {"type": "/problems/job-failed", "title": "The job failed", "status": 500, "detail": detail}


def _finished_at(status: WorkflowStatus, attempt: Attempt | None) -> str | None:
    if status.completed_at is None:
        return None
    recorded = in_rfc_3339(datetime.fromtimestamp(status.completed_at / 1000, UTC))
    # DBOS's time is cut to the second on SQLite: a job does not end before it has begun.
    return max(recorded, attempt.began_at) if attempt else recorded


@contextmanager
def translated_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as failure:
        raise JobsUnavailable(
            "The job database cannot be reached. Look at GET /train before sending a job again."
        ) from failure
