"""Where explanations that are asked for now and fetched later are kept, until they are done and while they are kept.

An explanation job is queued, running, succeeded, failed or cancelled. It is run by one API process at a time, its
owner, which beats while it works. A job whose owner has ended or fallen silent is run by another, from its beginning;
since methods give the same bits for the same seed, that changes nothing but the time it takes.

    queued --claim--> running --finish--> succeeded | failed
       |                 |
       +-----cancel------+--> cancelled
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import exc

from models.database import in_rfc_3339, metadata, reader_of, writing
from service.errors import ExplanationJobStateConflict, RecordsUnavailable, TooManyExplanationJobs
from service.jobs.membership import Pulse
from service.records.table import find_row, first_line

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
UNFINISHED = ("queued", "running")
MAX_UNFINISHED = 100
"""Jobs that may wait or run, over all processes, so that the database does not fill with requests."""

explanation_jobs_table = sa.Table(
    "explanation_jobs",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("created_at", sa.String, nullable=False, index=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("scope", sa.String, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("inputs", sa.LargeBinary),
    sa.Column("total_rows", sa.Integer),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("done_rows", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("owner", sa.String),
    sa.Column("beats", sa.Integer, nullable=False),
    sa.Column("problem", sa.Text),
    sa.Column("document", sa.Text),
    sa.Column("arrays", sa.LargeBinary),
)
_jobs = explanation_jobs_table.c
_NO_VALUES = {"inputs": None, "request": "{}"}
"""Of a job that has finished: its rows, and their strings, are where its record is, as far as records may hold them."""


@dataclass(frozen=True, slots=True)
class ExplanationJob:
    """An explanation to be fetched later.

    Attributes:
        scope: "rows", as `POST /explain` answers them, or "global".
        request: JSON; what was asked, resolved, with what rows said in strings; empty when it has finished.
        inputs: the decoded rows as an .npy file; None where a data set is named, and when it has finished.
        total_rows: None until the data set is loaded.
        attempts: how often it was begun.
        problem: JSON; why it failed.
        document, arrays: the answer of a global one, and what its table and pictures are made from.
    """

    id: str
    created_at: str
    model: str
    version: int
    scope: str
    request: str
    inputs: bytes | None
    total_rows: int | None
    status: Status = "queued"
    done_rows: int = 0
    attempts: int = 0
    owner: str | None = None
    beats: int = 0
    problem: str | None = None
    document: str | None = None
    arrays: bytes | None = None

    @property
    def progress(self) -> dict[str, Any]:
        """What is answered while it is not done."""
        return {
            "id": self.id,
            "created_at": self.created_at,
            "model": self.model,
            "version": self.version,
            "status": self.status,
            "progress": {"rows": self.done_rows, "total_rows": self.total_rows},
            "links": {"self": f"/explanations/{self.id}"},
        }


class ExplanationJobStore:
    """Explanation jobs in the registry's database.

    Args:
        clock: the time in UTC.
    """

    def __init__(self, engine: sa.Engine, *, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._engine, self._reader = engine, reader_of(engine)
        self._retention, self._clock = retention, clock

    def submit(self, job: ExplanationJob) -> None:
        """Queues a job: once this returns, it is done whatever happens to this process.

        Raises:
            TooManyExplanationJobs: when too many wait already.
            RecordsUnavailable: when the database cannot be written.
        """
        waiting = sa.select(sa.func.count()).where(_jobs.status.in_(UNFINISHED))
        try:
            with writing(self._engine) as connection:
                if (count := connection.execute(waiting).scalar_one()) >= MAX_UNFINISHED:
                    raise TooManyExplanationJobs(count)
                connection.execute(explanation_jobs_table.insert().values(**asdict(job)))
        except exc.DBAPIError as error:
            raise RecordsUnavailable(first_line(error)) from error

    def get(self, job: str) -> ExplanationJob | None:
        """A job that is kept, without its inputs and arrays, or None. Raises `RecordsUnavailable`."""
        light = [column for column in explanation_jobs_table.c if column.name not in ("inputs", "arrays")]
        wanted = sa.select(*light).where(_jobs.id == job, _jobs.created_at >= self._oldest())
        row = find_row(self._reader, wanted)
        return None if row is None else ExplanationJob(**row, inputs=None)

    def arrays(self, job: str) -> bytes:
        """What the table and the pictures of a global explanation are made from. Raises `RecordsUnavailable`."""
        try:
            with self._reader.begin() as connection:
                return connection.execute(sa.select(_jobs.arrays).where(_jobs.id == job)).scalar_one()
        except exc.DBAPIError as error:
            raise RecordsUnavailable(first_line(error)) from error

    def cancel(self, job: str) -> bool:
        """Cancels an unfinished job; False when there is no such job.

        Raises:
            ExplanationJobStateConflict: when it has finished.
            RecordsUnavailable: when the database cannot be written.
        """
        try:
            with writing(self._engine) as connection:
                changed = self._change(connection, job, None, status="cancelled", owner=None, **_NO_VALUES)
                if changed:
                    return True
                status = connection.execute(sa.select(_jobs.status).where(_jobs.id == job)).scalar()
        except exc.DBAPIError as error:
            raise RecordsUnavailable(first_line(error)) from error
        if status is not None:
            raise ExplanationJobStateConflict(job, status)
        return False

    # -- for the process that runs them; what the database raises is its to bear -------------------------------------

    def claim(self, owner: str, silent: set[str]) -> ExplanationJob | None:
        """Takes the oldest job that is queued, or whose owner is among the silent ones."""
        free = (_jobs.status == "queued") | ((_jobs.status == "running") & _jobs.owner.in_(silent))
        oldest = sa.select(explanation_jobs_table).where(free).order_by(_jobs.created_at, _jobs.id).limit(1)
        with writing(self._engine) as connection:
            row = connection.execute(oldest).mappings().one_or_none()
            if row is None:
                return None
            changes = {"status": "running", "owner": owner, "attempts": row["attempts"] + 1, "done_rows": 0}
            connection.execute(explanation_jobs_table.update().where(_jobs.id == row["id"]).values(**changes))
        return ExplanationJob(**{**row, **changes})

    def queued(self) -> bool:
        with self._reader.begin() as connection:
            return connection.execute(sa.select(_jobs.id).where(_jobs.status == "queued").limit(1)).scalar() is not None

    def pulses(self) -> dict[str, Pulse]:
        """Of the owners of the running jobs: their pulse changes as long as they live."""
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(_jobs.owner, _jobs.beats).where(_jobs.status == "running"))
            return {row.owner: Pulse(row.owner, row.beats) for row in rows}

    def beat(self, job: str, owner: str, *, done_rows: int, total_rows: int | None) -> bool:
        """Says that its owner lives, and how far it is. False when the job is no longer this owner's."""
        with writing(self._engine) as connection:
            changes = {"beats": _jobs.beats + 1, "done_rows": done_rows, "total_rows": total_rows}
            return self._change(connection, job, owner, **changes)

    def finish(
        self,
        job: str,
        owner: str,
        status: Status,
        *,
        problem: str | None = None,
        document: str | None = None,
        arrays: bytes | None = None,
    ) -> bool:
        """Ends a job with its answer or its problem. False when it is no longer this owner's."""
        with writing(self._engine) as connection:
            changes = {"status": status, "problem": problem, "document": document, "arrays": arrays}
            return self._change(connection, job, owner, **changes, owner=None, **_NO_VALUES)

    def release(self, owner: str) -> None:
        """Queues the jobs of an owner again: it ends, and another need not wait until it is silent."""
        with writing(self._engine) as connection:
            mine = (_jobs.owner == owner) & (_jobs.status == "running")
            # What ended in good order has not used up an attempt.
            changes = {"status": "queued", "owner": None, "attempts": _jobs.attempts - 1}
            connection.execute(explanation_jobs_table.update().where(mine).values(**changes))

    def sweep(self) -> int:
        """Deletes finished jobs that are older than they are kept; returns how many."""
        old = (_jobs.created_at < self._oldest()) & _jobs.status.not_in(UNFINISHED)
        with writing(self._engine) as connection:
            return connection.execute(explanation_jobs_table.delete().where(old)).rowcount

    def _change(self, connection: sa.Connection, job: str, held_by: str | None, **changes: Any) -> bool:
        unfinished = [_jobs.id == job, _jobs.status.in_(UNFINISHED)]
        if held_by is not None:
            unfinished.append(_jobs.owner == held_by)
        update = explanation_jobs_table.update().where(*unfinished).values(**changes)
        return connection.execute(update).rowcount == 1

    def _oldest(self) -> str:
        return in_rfc_3339(self._clock() - self._retention)
