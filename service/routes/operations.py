"""`/health/*` and `/metrics`."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from models.registry import CHAMPION
from service.bodies import JSON
from service.metrics import Metrics
from service.records.writer import RecordWriter
from service.routes.documentation import responses
from service.scrape import StoreFigures, exposition
from service.serving.pool import ModelPool
from service.settings import Settings


def operation_routes(
    pool: ModelPool, writer: RecordWriter, metrics: Metrics, stores: StoreFigures, settings: Settings
) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/health/live", summary="This process runs")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get(
        "/health/ready",
        summary="Requests can be served",
        responses=responses(503, example={"status": "ready", "models": {"digits": {"champion": 1}}, "problems": []}),
    )
    async def ready() -> Response:
        document = readiness(pool, writer, settings.required_models)
        status = 200 if document.pop("ready") else 503
        return Response(orjson.dumps(document), status, media_type=JSON)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def read_metrics() -> Response:
        await stores.refresh()
        return Response(await exposition(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def readiness(pool: ModelPool, writer: RecordWriter, required: tuple[str, ...]) -> dict[str, Any]:
    """ "ready"; "degraded" with problems; "starting" until the registry was read and each champion is being served.

    A champion that cannot be served (its files are damaged, say) is a problem, not a start: "degraded", and not ready.
    """
    served: dict[str, Any] = {}
    unserved = [name for name in required if pool.champion(name) is None]
    for name, model in pool.models().items():
        champion = pool.champion(name)
        if champion is not None:
            served[name] = {
                CHAMPION: champion.record.version,
                "engine": champion.engine_name,
                "explains": champion.in_compute.done() and champion.in_compute.exception() is None,
            }
        elif CHAMPION in model.aliases:
            unserved.append(name)
    problems = [f"{place}: {text}" for place, text in sorted(pool.problems.items())]
    problems += [f"{name} has no champion that can be served yet" for name in dict.fromkeys(unserved)]
    if writer.problem is not None:
        problems.append(f"explanations are answered but not recorded: {writer.problem}")
    broken = [
        name
        for name in unserved
        if (known := pool.models().get(name)) and f"{name}/{known.aliases.get(CHAMPION)}" in pool.problems
    ]
    starting = not pool.refreshed or len(broken) < len(unserved)
    return {
        "ready": pool.refreshed and not unserved,
        "status": "starting" if starting else "degraded" if problems else "ready",
        "models": served,
        "problems": problems,
    }
