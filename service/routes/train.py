"""`POST /train` and `GET /train[/{job}]`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from models.spec import TrainingSpec, parse_spec
from service.bodies import JSON, read_json
from service.jobs.queue import JobQueue
from service.metrics import Metrics
from service.routes.documentation import request_body, responses
from service.settings import Settings

EXAMPLE = {"model": "iris", "dataset": {"builtin": "iris"}, "gates": {"min": {"accuracy": 0.9}}}
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
    "links": {"self": "/train/01KAJ5ZV3M9W8W4D9J7YQ2T6RB", "model": "/models/iris"},
}


def train_routes(jobs: JobQueue, metrics: Metrics, settings: Settings) -> APIRouter:
    router = APIRouter(prefix="/train", tags=["training"])

    @router.post(
        "",
        status_code=202,
        summary="Train a new version",
        description="Accepted means stored: the job runs whatever happens to this process.",
        openapi_extra=request_body(TrainingSpec, {"iris": EXAMPLE}),
        responses={
            202: {"content": {JSON: {"example": {**ANSWER, "status": "queued"}}}},
            **responses(400, 413, 415, 422, 503),
        },
    )
    async def train(request: Request) -> Response:
        spec = parse_spec(await read_json(request, settings.body_limit_bytes))
        job = await asyncio.to_thread(jobs.submit, spec)
        metrics.jobs_submitted.inc()
        return Response(orjson.dumps(job), 202, {"Location": job["links"]["self"]}, JSON)

    @router.get("", summary="The latest jobs, newest first", responses=responses(422, 503, example={"jobs": [ANSWER]}))
    async def list_jobs(model: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        found = await asyncio.to_thread(jobs.jobs, limit=limit, model=model)
        return Response(orjson.dumps({"jobs": found}), media_type=JSON)

    @router.get("/{job}", summary="One job", responses=responses(404, 503, example=ANSWER))
    async def get_job(job: str) -> Response:
        return Response(orjson.dumps(await asyncio.to_thread(jobs.job, job)), media_type=JSON)

    return router
