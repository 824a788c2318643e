"""Takes explanation jobs in: what cannot be done is refused at once, the rest is stored before it is promised."""

from __future__ import annotations

import asyncio
from typing import Any

from models.database import now
from models.rows import decode_rows
from service.errors import RecordsOff
from service.identifiers import new_id
from service.metrics import RequestMeter
from service.records.job_requests import global_job, rows_job
from service.records.job_runner import ExplanationJobRunner
from service.records.jobs import ExplanationJob, ExplanationJobStore
from service.schemas import ExplainRequest, GlobalExplainRequest
from service.serving.explainer import Explainer
from service.serving.pool import ModelPool
from service.serving.resolving import check_request


class JobDesk:
    """Accepts, finds and cancels explanation jobs.

    Args:
        is_open: whether explanations are recorded: one that is fetched later must be.
    """

    def __init__(
        self,
        store: ExplanationJobStore,
        runner: ExplanationJobRunner,
        pool: ModelPool,
        explainer: Explainer,
        *,
        is_open: bool,
    ) -> None:
        self._store, self._runner, self._pool, self._explainer = store, runner, pool, explainer
        self.is_open = is_open

    async def take_rows(self, request: ExplainRequest, meter: RequestMeter) -> dict[str, Any]:
        """Queues what `POST /explain` would answer; returns its progress.

        Raises:
            What `Explainer.explain` raises before it computes; TooManyExplanationJobs, RecordsUnavailable.
        """
        served, resolved, _ = await self._explainer.resolve(request, meter)
        if served.explained is not None and not resolved.order.options:
            # What is wrong with the first row is said now.
            served.explained.plan(resolved.rows[:1], resolved.order)
        return await self._submit(rows_job(served, resolved, (new_id(), now())), meter)

    async def take_global(self, request: GlobalExplainRequest, meter: RequestMeter) -> dict[str, Any]:
        """Queues a global explanation; returns its progress.

        Raises:
            UnknownModel, UnknownVersion, InvalidRows, InvalidRequest, MethodDoesNotFit, RecordsOff,
            TooManyExplanationJobs, RecordsUnavailable: as their messages say.
        """
        if not self.is_open:
            raise RecordsOff
        served = await self._pool.resolve(request.model, str(request.version))
        meter.resolved(served.record.model, served.record.version, len(request.inputs or ()))
        check_request(request, served.signature)
        rows = None
        if request.inputs is None:
            request = request.model_copy(update={"dataset": request.dataset or "test"})
        else:
            rows = await asyncio.to_thread(decode_rows, request.inputs, served.signature)
        meter.end("decode")
        return await self._submit(global_job(served, request, rows, (new_id(), now())), meter)

    async def find(self, job: str) -> ExplanationJob | None:
        """A job that is kept, or None. Raises `RecordsUnavailable`."""
        return await asyncio.to_thread(self._store.get, job)

    async def arrays(self, job: str) -> bytes:
        return await asyncio.to_thread(self._store.arrays, job)

    async def cancel(self, job: str) -> bool:
        """Cancels a job; False when there is no such job.

        Raises:
            ExplanationJobStateConflict: when it has finished.
            RecordsUnavailable: when the database cannot be written.
        """
        found = await asyncio.to_thread(self._store.cancel, job)
        self._runner.stop(job)
        return found

    async def _submit(self, job: ExplanationJob, meter: RequestMeter) -> dict[str, Any]:
        await asyncio.to_thread(self._store.submit, job)
        self._runner.wake()
        meter.end("record")
        return job.progress
