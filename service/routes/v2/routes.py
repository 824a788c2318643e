"""The routes of the Open Inference Protocol V2 and of its extensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from models.registry import CHAMPION
from service.bodies import JSON, read_bytes
from service.entrance import RETRY_AFTER_SECONDS
from service.routes.v2 import documentation as documented
from service.routes.v2.explain import PATHS as EXPLAIN_PATHS
from service.routes.v2.explain import TensorExplanations
from service.routes.v2.infer import PATHS as INFER_PATHS
from service.routes.v2.infer import Inference
from service.routes.v2.metadata import model_configuration, model_metadata, server_metadata
from service.routes.v2.repository import index, load, parameters_of, ready_alone, unload, why_not_ready
from service.routes.v2.statistics import InferenceStatistics
from service.serving.pool import ModelPool
from service.settings import Settings

OF_MODEL = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
MOST_REPOSITORY_BYTES = 1 << 20


def v2_routes(
    pool: ModelPool,
    infer: Inference,
    explain: TensorExplanations,
    statistics: InferenceStatistics,
    readiness_now: Callable[[], dict[str, Any]],
    settings: Settings,
) -> APIRouter:
    """Args: readiness_now: what `GET /health/ready` says."""
    router = APIRouter(tags=["Open Inference Protocol V2"])

    def answered(method: str, path: str, summary: str, **more: Any) -> Callable[[Any], Any]:
        extra = {"openapi_extra": more.pop("body")} if "body" in more else {}
        return router.api_route(path, methods=[method], summary=summary, response_class=Response, **extra, **more)

    @answered("GET", "/v2", "What this server is", responses=documented.answers(example=documented.SERVER))
    @answered("GET", "/v2/", "What this server is", include_in_schema=False)
    async def server() -> Response:
        return _json(server_metadata())

    @answered("GET", "/v2/health/live", "This process runs", responses=documented.answers(example={"live": True}))
    async def live() -> Response:
        return _json({"live": True})

    @answered(
        "GET", "/v2/health/ready", "Requests can be served",
        responses=documented.answers(503, example={"ready": True}),
    )  # fmt: skip
    async def ready() -> Response:
        found = readiness_now()
        if found["ready"]:
            return _json({"ready": True})
        reasons = "; ".join(found["problems"]) or f"the server is {found['status']}"
        return _not_ready({"ready": False, "error": reasons})

    @answered("GET", "/v2/models", "The models", responses=documented.answers(example={"models": ["digits"]}))
    async def models() -> Response:
        return _json({"models": sorted(pool.models())})

    @answered("GET", "/v2/models/stats", "Statistics of every loaded version", responses=documented.answers())
    async def all_statistics() -> Response:
        return _json(statistics.of_all(pool))

    # FastAPI would take a version that is not in the path for a parameter of the query: so each path has a function.
    @answered(
        "GET", OF_MODEL[0], "The tensors of a model", responses=documented.answers(404, 503, example=documented.MODEL)
    )
    async def metadata(model: str) -> Response:
        return await version_metadata(model, CHAMPION)

    @answered("GET", OF_MODEL[1], "The tensors of a version", responses=documented.answers(404, 503))
    async def version_metadata(model: str, version: str) -> Response:
        served = await pool.resolve(model, version)
        versions = [record.version for record in pool.models()[model].versions]
        return _json(model_metadata(served, versions))

    @answered(
        "GET", OF_MODEL[0] + "/ready", "A model can be asked",
        responses=documented.answers(404, 503, example={"name": "digits", "ready": True}),
    )  # fmt: skip
    async def model_ready(model: str) -> Response:
        return await version_ready(model, CHAMPION)

    @answered("GET", OF_MODEL[1] + "/ready", "A version can be asked", responses=documented.answers(404, 503))
    async def version_ready(model: str, version: str) -> Response:
        reason = why_not_ready(pool, model, version)
        if reason is None:
            return _json({"name": model, "ready": True})
        return _not_ready({"name": model, "ready": False, "error": f"Model version not ready: {reason}"})

    @answered("GET", OF_MODEL[0] + "/config", "Its configuration in Triton's words", responses=documented.answers(404))
    async def configuration(model: str) -> Response:
        return await version_configuration(model, CHAMPION)

    @answered("GET", OF_MODEL[1] + "/config", "Its configuration in Triton's words", responses=documented.answers(404))
    async def version_configuration(model: str, version: str) -> Response:
        return _json(model_configuration(await pool.resolve(model, version), settings.max_rows))

    @answered("GET", OF_MODEL[0] + "/stats", "Statistics of a model", responses=documented.answers(404))
    async def model_statistics(model: str) -> Response:
        return _json(await statistics.of_model(pool, model, None))

    @answered("GET", OF_MODEL[1] + "/stats", "Statistics of a version", responses=documented.answers(404))
    async def version_statistics(model: str, version: str) -> Response:
        return _json(await statistics.of_model(pool, model, version))

    @answered(
        "POST", INFER_PATHS[0], "Predict tensors",
        body=documented.tensors(documented.INFER),
        responses=documented.tensor_answers(400, 404, 413, 503, 504, example=documented.INFERRED),
    )  # fmt: skip
    async def inference(request: Request, model: str) -> Response:
        return (await infer(request.scope, request.receive, model)).response()

    @answered(
        "POST", INFER_PATHS[1], "Predict tensors by a version",
        body=documented.tensors(documented.INFER), responses=documented.tensor_answers(400, 404, 413, 503, 504),
    )  # fmt: skip
    async def version_inference(request: Request, model: str, version: str) -> Response:
        return (await infer(request.scope, request.receive, model, version)).response()

    @answered(
        "POST", EXPLAIN_PATHS[0], "Explain tensors",
        body=documented.tensors(documented.EXPLAIN),
        responses=documented.tensor_answers(400, 404, 413, 503, 504, example=documented.EXPLAINED),
    )  # fmt: skip
    async def explanation(request: Request, model: str) -> Response:
        return (await explain(request.scope, request.receive, model)).response()

    @answered(
        "POST", EXPLAIN_PATHS[1], "Explain tensors by a version",
        body=documented.tensors(documented.EXPLAIN), responses=documented.tensor_answers(400, 404, 413, 503, 504),
    )  # fmt: skip
    async def version_explanation(request: Request, model: str, version: str) -> Response:
        return (await explain(request.scope, request.receive, model, version)).response()

    @answered(
        "POST", "/v2/repository/index", "Every version and its state",
        body=documented.small({"ready": True}), responses=documented.answers(400, example=documented.INDEX),
    )  # fmt: skip
    async def repository_index(request: Request) -> Response:
        return _json(index(pool, ready=ready_alone(await _small_body(request))))

    @answered(
        "POST", "/v2/repository/models/{model}/load", "Load a version and keep it loaded",
        body=documented.small({"parameters": {"version": "2"}}),
        responses=documented.answers(400, 404, 503, example={"name": "digits", "load": True, "version": "2"}),
    )  # fmt: skip
    async def load_model(request: Request, model: str) -> Response:
        return _json(await load(pool, model, parameters_of(await _small_body(request))))

    @answered(
        "POST", "/v2/repository/models/{model}/unload", "Unload versions that have no alias",
        body=documented.small({"parameters": {"version": "2"}}),
        responses=documented.answers(400, 404, 503, example={"name": "digits", "unload": True, "versions": ["2"]}),
    )  # fmt: skip
    async def unload_model(request: Request, model: str) -> Response:
        return _json(await unload(pool, model, parameters_of(await _small_body(request))))

    return router


async def _small_body(request: Request) -> bytes:
    return await read_bytes(request.scope, request.receive, MOST_REPOSITORY_BYTES)


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document), media_type=JSON)


def _not_ready(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}, JSON)
