"""`/schedules` and `/models/{m}/schedule`: when a model is trained again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from models.errors import Fault, InvalidSpec
from service.bodies import JSON, parse_body, read_json
from service.data.desk import DatasetDesk
from service.errors import InvalidRequest
from service.jobs.schedules import Schedules
from service.routes.documentation import request_body, responses
from service.schemas import ScheduleRequest
from service.settings import Settings

EXAMPLE = {"cron": "0 3 * * 1", "spec": {"from": "champion", "warm_start": True}}
ANSWER = {
    "model": "iris",
    "cron": "0 3 * * 1",
    "timezone": "UTC",
    "status": "active",
    "spec": {"from": "champion", "warm_start": True},
    "next_run_at": "2026-11-23T03:00:00.000Z",
    "last_run": {
        "at": "2026-11-16T03:00:00.000Z",
        "job": "01KAJ5ZV3M9W8W4D9J7YQ2T6RB",
        "detail": "Submitted.",
    },
    "links": {"self": "/models/iris/schedule", "model": "/models/iris"},
}
RULES = (
    "Five cron fields, in UTC. A run submits the job that `POST /train` would with this `spec` at that moment; where "
    "the job of the run before has not finished, it is skipped. Runs that are missed while no worker is up are made up "
    "for by one, the latest; those that fall into a pause are not."
)


def schedule_routes(schedules: Schedules, datasets: DatasetDesk, settings: Settings) -> APIRouter:
    router = APIRouter(tags=["training"])

    async def answered(action: Callable[[datetime], Any]) -> Response:
        return Response(orjson.dumps(await asyncio.to_thread(action, datetime.now(UTC))), media_type=JSON)

    @router.get("/schedules", summary="Every schedule", responses=responses(503, example={"schedules": [ANSWER]}))
    async def list_schedules() -> Response:
        return await answered(lambda now: {"schedules": schedules.list(now)})

    @router.get("/models/{model}/schedule", summary="A model's schedule", responses=responses(404, 503, example=ANSWER))
    async def get_schedule(model: str) -> Response:
        return await answered(lambda now: schedules.get(model, now))

    @router.put(
        "/models/{model}/schedule",
        summary="Train a model again by the clock",
        description=RULES + " A schedule that is paused stays so.",
        openapi_extra=request_body(ScheduleRequest, {"mondays": EXAMPLE}),
        responses=responses(400, 404, 409, 413, 415, 422, 503, example=ANSWER),
    )
    async def put_schedule(request: Request, model: str) -> Response:
        body = parse_body(await read_json(request.scope, request.receive, settings.body_limit_bytes), ScheduleRequest)
        if body.spec.get("model", model) != model:
            raise InvalidRequest([Fault("#/spec/model", f"{model!r}, or nothing", repr(body.spec["model"]))])

        try:
            # A file that is not known yet is looked through elsewhere than in this process.
            dataset = await asyncio.to_thread(schedules.dataset_of, model, body.spec)
            if dataset.builtin is None:
                await datasets.prepare(dataset)
            return await answered(lambda now: schedules.put(model, body.cron, body.spec, now))
        except InvalidSpec as error:
            faults = [Fault(f"#/spec{f.pointer[1:]}", f.expected, f.received, f.detail) for f in error.faults]
            raise InvalidRequest(faults) from None

    @router.delete(
        "/models/{model}/schedule",
        status_code=204,
        summary="Train a model by the clock no more",
        responses=responses(404, 503),
    )
    async def delete_schedule(model: str) -> Response:
        await asyncio.to_thread(schedules.remove, model)
        return Response(status_code=204)

    @router.post(
        "/models/{model}/schedule/pause",
        summary="Begin no runs for a while",
        responses=responses(404, 503, example=ANSWER),
    )
    async def pause_schedule(model: str) -> Response:
        return await answered(lambda now: schedules.pause(model, now))

    @router.post(
        "/models/{model}/schedule/resume", summary="Begin runs again", responses=responses(404, 503, example=ANSWER)
    )
    async def resume_schedule(model: str) -> Response:
        return await answered(lambda now: schedules.resume(model, now))

    return router
