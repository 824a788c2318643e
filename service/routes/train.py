"""`/train`: jobs accepted, looked at, followed, cancelled and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from models.asking import made_whole
from models.errors import Fault
from models.registry import Registry
from models.retraining import resolve_from
from models.rows import describe
from models.spec import TrainingSpec, read_spec
from service.bodies import JSON, read_json
from service.data.desk import DatasetDesk
from service.errors import InvalidRequest, JobsUnavailable
from service.jobs.logs import last_lines
from service.jobs.progress import JobEvent
from service.jobs.queue import JobQueue
from service.metrics import Metrics
from service.routes.documentation import request_body, responses
from service.settings import Settings

EVENTS = "text/event-stream"
POLL_SECONDS = 0.25
COMMENT_SECONDS = 15.0
EXAMPLE = {"model": "iris", "dataset": {"builtin": "iris"}, "gates": {"min": {"accuracy": 0.9}}}
RETRAINING_EXAMPLE = {"model": "iris", "from": "champion", "warm_start": True, "training": {"epochs": 10}}
ANSWER = {
    "job": "01KAJ5ZV3M9W8W4D9J7YQ2T6RB",
    "model": "iris",
    "status": "running",
    "step": "fitting",
    "progress": {"epoch": 12, "epochs": 50, "metrics": {"loss": 0.21, "val_accuracy": 0.95}, "seconds_left": 8.1},
    "attempt": 1,
    "created_at": "2026-11-21T09:30:00.123Z",
    "started_at": "2026-11-21T09:30:00.512Z",
    "finished_at": None,
    "version": None,
    "promoted": None,
    "gates": [],
    "error": None,
    "links": {
        "self": "/train/01KAJ5ZV3M9W8W4D9J7YQ2T6RB",
        "events": "/train/01KAJ5ZV3M9W8W4D9J7YQ2T6RB/events",
        "logs": "/train/01KAJ5ZV3M9W8W4D9J7YQ2T6RB/logs",
        "model": "/models/iris",
    },
}
TRIALS_EXAMPLE = {
    "trials": [
        {
            "trial": 0,
            "state": "complete",
            "parameters": {"architecture.depth": 2, "architecture.width": 48, "training.learning_rate": 0.0021},
            "epochs": 31,
            "value": 0.087,
            "seconds": 4.2,
            "reason": None,
        }
    ]
}
EVENTS_EXAMPLE = (
    'id: 3\nevent: progress\ndata: {"job":"01KAJ5ZV3M9W8W4D9J7YQ2T6RB","step":"fitting","progress":{"epoch":12}}\n\n'
    'id: 4\nevent: status\ndata: {"job":"01KAJ5ZV3M9W8W4D9J7YQ2T6RB","status":"succeeded","version":1}\n\n'
)


def train_routes(
    jobs: JobQueue, datasets: DatasetDesk, registry: Registry, metrics: Metrics, settings: Settings
) -> APIRouter:
    router = APIRouter(prefix="/train", tags=["training"])

    @router.post(
        "",
        status_code=202,
        summary="Train a new version",
        description="Accepted means stored: the job runs whatever happens to this process. Sent again with the same "
        "`Idempotency-Key`, the same body gives the same job. `from` takes the specification of an earlier version (a "
        "number or an alias); the other keys of the body are merged over it, object by object.",
        openapi_extra=request_body(TrainingSpec, {"iris": EXAMPLE, "again, on what there is now": RETRAINING_EXAMPLE}),
        responses={
            202: {"content": {JSON: {"example": {**ANSWER, "status": "queued"}}}},
            **responses(400, 404, 409, 413, 415, 422, 503),
        },
    )
    async def train(
        request: Request,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Response:
        document = await read_json(request.scope, request.receive, settings.body_limit_bytes)
        whole = await asyncio.to_thread(resolve_from, document, registry)
        asked = read_spec(whole)
        if asked.dataset.builtin is None:
            await datasets.prepare(asked.dataset)
        spec = await asyncio.to_thread(made_whole, asked, datasets.folder, registry)
        job = await asyncio.to_thread(jobs.submit, spec, document, idempotency_key=idempotency_key)
        metrics.jobs_submitted.add(())
        return Response(orjson.dumps(job), 202, {"Location": job["links"]["self"]}, JSON)

    @router.get("", summary="The latest jobs, newest first", responses=responses(422, 503, example={"jobs": [ANSWER]}))
    async def list_jobs(model: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        found = await asyncio.to_thread(jobs.jobs, limit=limit, model=model)
        return Response(orjson.dumps({"jobs": found}), media_type=JSON)

    @router.get("/{job}", summary="One job", responses=responses(404, 503, example=ANSWER))
    async def get_job(job: str) -> Response:
        return Response(orjson.dumps(await asyncio.to_thread(jobs.job, job)), media_type=JSON)

    @router.post(
        "/{job}/cancel",
        status_code=202,
        summary="Stop a job that is queued or running",
        description="Its trainer is stopped in the middle of what it does. `resume` goes on from the last checkpoint.",
        responses={
            202: {"content": {JSON: {"example": {**ANSWER, "status": "cancelled"}}}},
            **responses(404, 409, 503),
        },
    )
    async def cancel(job: str) -> Response:
        return Response(orjson.dumps(await asyncio.to_thread(jobs.cancel, job)), 202, media_type=JSON)

    @router.post(
        "/{job}/resume",
        status_code=202,
        summary="Queue a failed or cancelled job again",
        description="It goes on from its last checkpoint, and gives the same version as if it had never stopped.",
        responses={
            202: {"content": {JSON: {"example": {**ANSWER, "status": "queued"}}}},
            **responses(404, 409, 503),
        },
    )
    async def resume(job: str) -> Response:
        return Response(orjson.dumps(await asyncio.to_thread(jobs.resume, job)), 202, media_type=JSON)

    @router.get(
        "/{job}/events",
        summary="What happens to a job, as server-sent events",
        description="`progress` and `status` events with rising ids. A client that comes back with `Last-Event-ID` "
        "misses nothing. The stream ends when the job has finished.",
        response_class=StreamingResponse,
        responses=responses(404, 422, 503, media={EVENTS: {"example": EVENTS_EXAMPLE}}),
    )
    async def follow(job: str, last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        after = _event_number(last_event_id)
        # Looked up before the answer begins, so that an unknown job is a 404.
        found, finished = await asyncio.to_thread(jobs.events, job, after=after)
        stream = _event_stream(jobs, job, after, found, finished)
        return StreamingResponse(stream, media_type=EVENTS, headers={"Cache-Control": "no-store"})

    @router.get(
        "/{job}/trials",
        summary="What the search of a job has tried",
        description="Each trial with what it drew, how many epochs it ran, and the search's metric on the validation "
        "part. A trial that fell behind was `pruned`. Empty for a job that does not search.",
        responses=responses(404, 503, example=TRIALS_EXAMPLE),
    )
    async def list_trials(job: str) -> Response:
        found = await asyncio.to_thread(jobs.trials, job)
        return Response(orjson.dumps({"trials": found}), media_type=JSON)

    @router.get(
        "/{job}/logs",
        summary="The log of a job's trainers",
        response_class=Response,
        responses=responses(
            404,
            422,
            503,
            media={"text/plain": {"example": "2026-11-21T09:30:02.101Z INFO trainer vitrine.trainer: fitting\n"}},
        ),
    )
    async def read_logs(
        job: str, tail: Annotated[int | None, Query(ge=1, description="only so many of the last lines")] = None
    ) -> Response:
        document = await asyncio.to_thread(jobs.job, job)
        path: Path = settings.logs_directory / "jobs" / f"{document['job']}.log"
        text = await asyncio.to_thread(last_lines, path, tail)
        return Response(text, media_type="text/plain; charset=utf-8")

    return router


def _event_number(header: str | None) -> int:
    if header is None or not header.strip():
        return 0
    if not header.strip().isdecimal():
        raise InvalidRequest([Fault("header Last-Event-ID", "the id of an event: a number", describe(header))])
    return int(header)


async def _event_stream(
    jobs: JobQueue, job: str, after: int, found: list[JobEvent], finished: bool
) -> AsyncIterator[bytes]:
    said_at = monotonic()
    while True:
        for event in found:
            yield f"id: {event.id}\nevent: {event.event}\ndata: {_one_line(event.data)}\n\n".encode()
            after, said_at = event.id, monotonic()
        if finished:
            return
        if monotonic() - said_at >= COMMENT_SECONDS:
            # Proxies close connections on which nothing is said.
            yield b": still here\n\n"
            said_at = monotonic()
        await asyncio.sleep(POLL_SECONDS)
        try:
            found, finished = await asyncio.to_thread(jobs.events, job, after=after)
        except JobsUnavailable:
            found = []


def _one_line(data: dict[str, Any]) -> str:
    return orjson.dumps(data).decode()
