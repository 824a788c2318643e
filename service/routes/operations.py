"""`/health/*` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from models.registry import CHAMPION
from service.bodies import JSON
from service.draining import Drain
from service.entrance import RETRY_AFTER_SECONDS
from service.metrics import Metrics
from service.routes.documentation import responses
from service.scrape import StoreFigures, exposition
from service.serving.pool import ModelPool


def operation_routes(readiness_now: Callable[[], dict[str, Any]], metrics: Metrics, stores: StoreFigures) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/", summary="This process runs, for KServe's client")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/health/live", summary="This process runs")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get(
        "/health/ready",
        summary="Requests can be served",
        responses=responses(503, example={"status": "ready", "models": {"digits": {"champion": 1}}, "problems": []}),
    )
    async def ready() -> Response:
        document = readiness_now()
        if document.pop("ready"):
            return Response(orjson.dumps(document), media_type=JSON)
        return Response(orjson.dumps(document), 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}, JSON)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def read_metrics() -> Response:
        await stores.refresh()
        return Response(await exposition(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def readiness(pool: ModelPool, records: Mapping[str, str | None], drain: Drain) -> dict[str, Any]:
    """ "ready"; "degraded" with problems; "starting" until the registry was read and what is waited for is served: each
    champion that is loaded before it is asked for, and every version that `VITRINE_PRELOAD` names.

    One of those that cannot be served (its files are damaged, say) is a problem, not a start: "degraded", and not
    ready. A process that is about to end is "draining".

    Args:
        records: what is recorded, and what is wrong with that now, if anything is.
    """
    served: dict[str, Any] = {}
    for name in pool.models():
        champion = pool.champion(name)
        if champion is not None:
            served[name] = {
                CHAMPION: champion.record.version,
                "engine": champion.engine_name,
                "explains": champion.is_in_compute,
            }
    unserved = pool.unserved()
    problems = [f"{place}: {text}" for place, text in sorted(pool.problems.items())]
    problems += unserved
    for kind, problem in records.items():
        if problem is not None:
            problems.append(f"{kind} are answered but not recorded: {problem}")
    starting = not pool.refreshed or not all(unserved.values())
    status = "starting" if starting else "degraded" if problems else "ready"
    return {
        "ready": pool.refreshed and not unserved and not drain.draining,
        "status": "draining" if drain.draining else status,
        "models": served,
        "problems": problems,
    }
