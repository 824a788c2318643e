"""Runs explanation jobs, one at a time, and takes over those of processes that have fallen silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import orjson
import sqlalchemy.exc

from explain.attribution import Estimate
from models.errors import Fault
from models.rows import ModelInput
from service.errors import InvalidRequest
from service.jobs.membership import Silence
from service.problems import STATUSES, problem_document, unexpected_problem
from service.records.job_requests import global_request_of, resolved_of, rows_of
from service.records.jobs import ExplanationJob, ExplanationJobStore
from service.records.keeping import Keeping
from service.records.record import record_of
from service.records.store import ExplanationStore
from service.schemas import GlobalExplainRequest
from service.serving.explainer import Explainer
from service.serving.global_wording import Attributed
from service.serving.patient import PatientExplainer
from service.serving.pool import ModelPool
from service.serving.resolving import resolve_request
from service.serving.served_model import ServedModel

logger = logging.getLogger("vitrine.explanations")

BEAT_SECONDS = 1.0
LOOK_SECONDS = 2.0
"""How often jobs of others are looked for. One that this process accepts is begun at once."""
SILENT_SECONDS = 15.0
MAX_ATTEMPTS = 3
"""Processes that may die over a job before it is given up."""

NoteEstimates = Callable[[str, list[Estimate]], None]


@dataclass
class _Running:
    job: ExplanationJob
    work: asyncio.Task[tuple[str | None, bytes | None]]
    done_rows: int = 0
    total_rows: int | None = None


class ExplanationJobRunner:
    """Runs jobs until it is cancelled.

    Args:
        owner: a name that no other process has, nor this one in an earlier life.
        keeping: what answers may hold of the values that were explained.
        note: is told the estimates of each finished job, for the metrics.
    """

    def __init__(
        self,
        store: ExplanationJobStore,
        records: ExplanationStore,
        pool: ModelPool,
        explainer: Explainer,
        patient: PatientExplainer,
        *,
        owner: str,
        keeping: Keeping,
        note: NoteEstimates,
    ) -> None:
        self._store, self._records, self._pool = store, records, pool
        self._explainer, self._patient = explainer, patient
        self._owner, self._keeping, self._note = owner, keeping, note
        self._silence = Silence(SILENT_SECONDS)
        self._news = asyncio.Event()
        self._running: _Running | None = None

    def wake(self) -> None:
        """There is a new job."""
        self._news.set()

    def stop(self, job: str) -> None:
        """A job was cancelled: if it is this one, its work ends now."""
        if self._running is not None and self._running.job.id == job:
            self._running.work.cancel()

    async def run_for_ever(self) -> None:
        while True:
            self._news.clear()
            job = await self._claim()
            if job is not None:
                await self._run(job)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    def release(self) -> None:
        """Gives up what is running, for another process or the next life of this one to begin again."""
        try:
            self._store.release(self._owner)
        except sqlalchemy.exc.SQLAlchemyError as error:
            logger.warning("explanation jobs are left to be found silent: %s", error)

    async def _claim(self) -> ExplanationJob | None:
        try:
            pulses = await asyncio.to_thread(self._store.pulses)
            silent = set(self._silence.silent(pulses, monotonic()))
            if self._owner in pulses:
                # Claimed by this process, which works on none: what it did with it has failed.
                silent.add(self._owner)
            if not silent and not await asyncio.to_thread(self._store.queued):
                return None
            return await asyncio.to_thread(self._store.claim, self._owner, silent)
        except sqlalchemy.exc.SQLAlchemyError as error:
            self._silence.could_not_listen()
            logger.warning("explanation jobs cannot be looked for: %s", error)
            return None

    async def _run(self, job: ExplanationJob) -> None:
        """Does a job to its end, in whatever way it ends."""
        if job.attempts > MAX_ATTEMPTS:
            await self._insist(lambda: self._store.finish(job.id, self._owner, "failed", problem=_lethal(job)))
            return
        logger.info("explanation job %s is begun, attempt %d", job.id, job.attempts)
        running = self._running = _Running(job, asyncio.create_task(self._work(job)), total_rows=job.total_rows)
        try:
            while not running.work.done():
                await asyncio.wait({running.work}, timeout=BEAT_SECONDS)
                if not running.work.done() and not await self._beat(running):
                    running.work.cancel()
            await self._finish(job, running.work)
        finally:
            # Cancelled itself, when the server ends, it leaves nothing at work.
            running.work.cancel()
            self._running = None

    async def _beat(self, running: _Running) -> bool:
        job, done, total = running.job.id, running.done_rows, running.total_rows
        try:
            return await asyncio.to_thread(self._store.beat, job, self._owner, done_rows=done, total_rows=total)
        except sqlalchemy.exc.SQLAlchemyError as error:
            logger.warning("explanation job %s goes on without being able to say so: %s", job, error)
            return True

    async def _finish(self, job: ExplanationJob, work: asyncio.Task[tuple[str | None, bytes | None]]) -> None:
        if work.cancelled():
            logger.info("explanation job %s was cancelled, or taken over", job.id)
            return
        if (error := work.exception()) is None:
            document, arrays = work.result()
            await self._insist(
                lambda: self._store.finish(job.id, self._owner, "succeeded", document=document, arrays=arrays)
            )
            logger.info("explanation job %s has succeeded", job.id)
            return
        if isinstance(error, Exception) and type(error) in STATUSES:
            logger.info("explanation job %s has failed: %s", job.id, error)
            problem = problem_document(error)
        else:
            logger.error("explanation job %s has failed", job.id, exc_info=error)
            problem = unexpected_problem(job.id)
        encoded = orjson.dumps(problem).decode()
        await self._insist(lambda: self._store.finish(job.id, self._owner, "failed", problem=encoded))

    async def _insist(self, write: Callable[[], object]) -> None:
        """Writes what must not be lost, again and again while the database is away."""
        while True:
            try:
                await asyncio.to_thread(write)
                return
            except sqlalchemy.exc.OperationalError as error:
                logger.warning("the end of an explanation job cannot be written yet: %s", error)
            await asyncio.sleep(BEAT_SECONDS)

    async def _work(self, job: ExplanationJob) -> tuple[str | None, bytes | None]:
        """The document and arrays of a global explanation; an explanation of rows is recorded as any other."""
        started = monotonic()
        served = await self._pool.resolve(job.model, str(job.version))
        return await (self._global if job.scope == "global" else self._of_rows)(job, served, started)

    async def _of_rows(self, job: ExplanationJob, served: ServedModel, started: float) -> tuple[None, None]:
        resolved = resolved_of(job)
        predictions = await self._patient.predict(served, resolved.rows)
        estimates = await self._patient.explain(served, resolved.rows, resolved.order, self._progress(job))
        explained = await self._explainer.word(
            served, resolved, predictions, estimates, identity=(job.id, job.created_at), started=started
        )
        await self._insist(lambda: self._records.insert([record_of(explained, self._keeping)]))
        self._note(job.model, estimates)
        return None, None

    async def _global(self, job: ExplanationJob, served: ServedModel, started: float) -> tuple[str, bytes]:
        request = global_request_of(job)
        rows, weights = await self._rows(job, served, request)
        if self._running is not None:
            self._running.total_rows = len(rows)
        predictions = await self._patient.predict(served, rows)
        resolved = resolve_request(request, served.signature, rows, predictions)
        estimates = await self._patient.explain(served, rows, resolved.order, self._progress(job))
        attributed = Attributed.of(rows, resolved.order.targets, estimates)
        summary = await self._patient.summary(served.signature, attributed, estimates, weights)
        receipt = await self._explainer.receipt(served, resolved, estimates, started)
        document: dict[str, Any] = {
            "id": job.id,
            "created_at": job.created_at,
            "model": job.model,
            "version": job.version,
            "scope": "global",
            "dataset": request.dataset,
            **summary,
            # Said as it was asked: of each row.
            "receipt": receipt | {"deadline_ms": request.deadline_ms, "recorded": True},
        }
        self._note(job.model, estimates)
        hidden = self._keeping.hidden(served.signature)
        for target in document["targets"]:
            for feature in target.get("features", ()):
                if not self._keeping.inputs or feature["feature"] in hidden:
                    # What follows the values of a feature tells them.
                    feature["dependence"] = None
        if hidden:
            document["redacted"] = hidden
        encoded = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        keep_rows = self._keeping.inputs and not hidden
        return encoded, await asyncio.to_thread(attributed.to_bytes, keep_rows=keep_rows)

    async def _rows(
        self, job: ExplanationJob, served: ServedModel, request: GlobalExplainRequest
    ) -> tuple[ModelInput, np.ndarray | None]:
        """The rows to explain, and what each stands for where they do not all count the same."""
        if (inputs := rows_of(job)) is not None:
            return inputs, None
        if request.dataset == "background":
            return _drawn(*served.artifact.background, request.max_rows, request.seed)
        part = request.dataset or "test"
        rows = await self._patient.rows_of(served, part, max_rows=request.max_rows, seed=request.seed)
        if len(rows) == 0:
            raise InvalidRequest([Fault("#/dataset", "a part that has rows", f"{part}, which has none")])
        return rows, None

    def _progress(self, job: ExplanationJob) -> Callable[[int], None]:
        def note(done_rows: int) -> None:
            if self._running is not None and self._running.job is job:
                self._running.done_rows = done_rows

        return note


def _drawn(rows: ModelInput, weights: np.ndarray, max_rows: int, seed: int) -> tuple[ModelInput, np.ndarray]:
    """At most so many of the background rows, with their weights."""
    if len(rows) <= max_rows:
        return rows, weights
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), size=max_rows, replace=False))
    return rows[chosen], weights[chosen]


def _lethal(job: ExplanationJob) -> str:
    detail = f"The server ended {MAX_ATTEMPTS} times while it worked on this explanation; it is not begun again."
    problem = {"type": "/problems/explanation-lethal", "title": "The explanation was given up", "status": 500}
    return orjson.dumps({**problem, "detail": detail, "request_id": job.id}).decode()
