"""`/health/*` and `/metrics`."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from models.registry import CHAMPION
from service.bodies import JSON
from service.draining import Drain
from service.metrics import Metrics
from service.requests import RETRY_AFTER_SECONDS
from service.routes.documentation import responses
from service.serving.compute import ComputeClient
from service.serving.pool import ModelPool
from service.settings import Settings


def operation_routes(
    pool: ModelPool, compute: ComputeClient, metrics: Metrics, settings: Settings, drain: Drain
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
        document = readiness(pool, settings.required_models)
        if drain.draining:
            document["status"] = "draining"
        if document["status"] in ("starting", "draining"):
            return Response(orjson.dumps(document), 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}, JSON)
        return Response(orjson.dumps(document), media_type=JSON)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def read_metrics() -> Response:
        metrics.loaded_versions.set(sum(len(pool.loaded(name)) for name in pool.models()))
        metrics.compute_restarts.set(compute.restarts)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def readiness(pool: ModelPool, required: tuple[str, ...]) -> dict[str, Any]:
    """ "starting" until the registry was read and each champion that should be served is; "degraded" with problems."""
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
    starting = not pool.refreshed or bool(unserved)
    return {
        "status": "starting" if starting else "degraded" if problems else "ready",
        "models": served,
        "problems": problems,
    }
