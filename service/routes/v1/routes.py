"""`/v1/models/...`: what is asked at which path, and by which verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope

from models.registry import CHAMPION
from service.bodies import JSON, parse_json, read_bytes
from service.metrics import Metrics, RequestMeter
from service.problems import V1_CALLS
from service.receiving import unless_gone
from service.routes.direct import Answer, DirectRoute
from service.routes.v1 import documentation, explaining
from service.routes.v1.answers import (
    classification_answer,
    metadata_answer,
    prediction_answer,
    regression_answer,
    status_answer,
    version_states,
)
from service.routes.v1.errors import MalformedRequest, Place, error_response, rows_under, text_response
from service.routes.v1.reading import (
    CONTEXT,
    EXAMPLES,
    INPUTS,
    INSTANCES,
    Rows,
    check_document,
    examples_of,
    rows_of,
    with_strings,
)
from service.serving.explainer import Explainer
from service.serving.pool import ModelPool
from service.serving.predictor import Predictor
from service.serving.served_model import ServedModel
from service.serving.traffic import Traffic
from service.settings import Settings

Call = Callable[[Request, Place], Awaitable[dict[str, Any] | bytes]]
PLACES = ("", "/versions/{version}", "/labels/{label}")
_METHODS = {"classification": "classify", "regression": "regress"}


class V1:
    """Answers what V1 asks."""

    def __init__(
        self,
        pool: ModelPool,
        traffic: Traffic,
        predictor: Predictor,
        explainer: Explainer,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._pool, self._traffic, self._predictor, self._explainer = pool, traffic, predictor, explainer
        self._metrics, self._settings = metrics, settings

    async def predict(self, request: Request, place: Place) -> dict[str, Any]:
        meter = self._metrics.follow("predict", request.scope)
        document = check_document(await self._read(request), (INSTANCES, INPUTS))
        rows = rows_of(document, self._settings.max_rows)
        served = await self._resolve(request, place, rows, meter)
        outputs = await self._outputs(request, served, rows, meter)
        return prediction_answer(outputs, served.signature, rows)

    async def classify(self, request: Request, place: Place) -> dict[str, Any]:
        served, outputs = await self._examples(request, place, "classification")
        return classification_answer(outputs, served.signature)

    async def regress(self, request: Request, place: Place) -> dict[str, Any]:
        _, outputs = await self._examples(request, place, "regression")
        return regression_answer(outputs)

    async def explain(self, request: Request, place: Place) -> dict[str, Any]:
        meter = self._metrics.follow("explain", request.scope)
        document = check_document(await self._read(request), explaining.KEYS)
        rows = rows_of(document, self._settings.max_rows)
        served = await self._find(request, place)
        with rows_under(rows.key):
            asked = explaining.request_of(document, with_strings(rows, served.signature), served)
            meter.end("read")
            explained = await unless_gone(request.receive, self._explainer.explain(asked, meter))
        self._metrics.note_explanations(explained.served.record.model, explained.estimates)
        return explaining.explanation_answer(explained, asked)

    async def models(self) -> dict[str, Any]:
        return {"models": sorted(self._pool.models())}

    async def status(self, place: Place) -> Response:
        """What KServe and TensorFlow Serving answer here, together; 503 as KServe has it where it is not ready."""
        record = self._pool.models().get(place.model)
        if record is None:
            return text_response(404, f"Could not find any versions of model {place.model}")
        versions = record.versions
        if place.version is not None or place.label is not None:
            version = record.aliases.get(place.label) if place.label is not None else int(place.version or 0)
            versions = tuple(each for each in versions if each.version == version)
            if place.label is not None and not versions:
                return text_response(400, f"Unrecognized servable version label: {place.label}")
            if not versions:
                return text_response(404, f"Could not find version {place.version} of model {place.model}")
        states = version_states(versions, self._pool.loaded(place.model), record.aliases, self._pool.problems)
        champion = self._pool.champion(place.model)
        ready = champion is not None and (champion.is_in_compute or not champion.needs_compute)
        if place.version is not None or place.label is not None:
            ready = all(state.is_loaded for state in states)
            return _json(status_answer(place.model, ready, states))
        document = status_answer(place.model, ready, states)
        if ready:
            return _json(document)
        error = f"Model {place.model} is not ready: its {CHAMPION} is not loaded"
        return Response(orjson.dumps({**document, "error": error}), 503, {"Retry-After": "5"}, JSON)

    async def metadata(self, place: Place) -> Response:
        served = await self._pool.resolve(place.model, place.wanted or CHAMPION)
        return _json(metadata_answer(served.record.model, served.record.version, served.signature))

    async def _find(self, request: Request, place: Place) -> ServedModel:
        """The version of a path; where it names none, the one that the model's split of traffic gives it."""
        return await self._pool.resolve(place.model, place.wanted or self._traffic.alias(place.model, request.scope))

    async def _read(self, request: Request) -> Any:
        # Whatever its content type: curl, which the protocol's own documentation shows, says it is a form.
        body = await read_bytes(request.scope, request.receive, self._settings.body_limit_bytes)
        return await parse_json(body, rows=(INSTANCES, INPUTS, EXAMPLES))

    async def _examples(self, request: Request, place: Place, task: str) -> tuple[ServedModel, Any]:
        meter = self._metrics.follow("predict", request.scope)
        document = check_document(await self._read(request), (EXAMPLES, CONTEXT))
        served = await self._find(request, place)
        signature = served.signature
        if signature.task != task:
            raise MalformedRequest(
                f"Expected {task} signature method_name to be tensorflow/serving/{_METHODS[task]}. "
                f"Was: tensorflow/serving/{_METHODS[signature.task]}"
            )
        rows = examples_of(document, signature, _METHODS[task], self._settings.max_rows)
        self._resolved(served, rows, meter)
        return served, await self._outputs(request, served, rows, meter)

    async def _resolve(self, request: Request, place: Place, rows: Rows, meter: RequestMeter) -> ServedModel:
        meter.end("read")
        served = await self._find(request, place)
        self._resolved(served, rows, meter)
        return served

    def _resolved(self, served: ServedModel, rows: Rows, meter: RequestMeter) -> None:
        meter.resolved(served.record.model, served.record.version, len(rows.values))

    async def _outputs(self, request: Request, served: ServedModel, rows: Rows, meter: RequestMeter) -> Any:
        with rows_under(rows.key):
            values = with_strings(rows, served.signature).values
            return await self._predictor.evaluate(served, values, meter, request.receive)


def v1_routes(v1: V1) -> APIRouter:
    router = APIRouter(tags=["v1"])

    for name, answer in (("predict", v1.predict), ("classify", v1.classify), ("regress", v1.regress)):
        for place in PLACES:
            _add(router, place, name, answer)
    for place in PLACES:
        _add(router, place, "explain", v1.explain)

    @router.get("/v1/models", summary="Names of all models (KServe)", responses=documentation.MODELS)
    async def models() -> dict[str, Any]:
        return await v1.models()

    for place in PLACES:
        _add_get(router, f"/v1/models/{{model}}{place}/metadata", v1.metadata, **documentation.metadata(place))
        _add_get(router, f"/v1/models/{{model}}{place}", v1.status, **documentation.status(place))

    return router


def direct_routes(v1: V1) -> list[DirectRoute]:
    """Predictions, answered without FastAPI's routing."""

    async def answer(scope: Scope, receive: Receive) -> Response:
        return await answered(Request(scope, receive), v1.predict)

    return [DirectRoute(f"/v1/models/{{model}}{place}:predict", answer) for place in PLACES]


def _add(router: APIRouter, place: str, name: str, answer: Call) -> None:
    async def call(request: Request) -> Response:
        return await answered(request, answer)

    router.add_api_route(
        f"/v1/models/{{model}}{place}:{name}", call, methods=["POST"], **documentation.call(name, place)
    )


def _add_get(router: APIRouter, path: str, answer: Callable[[Place], Awaitable[Response]], **said: Any) -> None:
    async def call(request: Request) -> Response:
        if request.url.path.endswith(V1_CALLS):
            return text_response(405, f"Malformed request: GET {request.url.path}", {"Allow": "POST"})
        place = None
        try:
            place = place_of(request.path_params)
            return await answer(place)
        except Exception as error:
            return error_response(error, request.url.path, place)

    router.add_api_route(path, call, methods=["GET"], **said)


async def answered(request: Request, answer: Call) -> Response:
    """An answer as JSON, or the error that it met in the protocol's form."""
    place = None
    try:
        place = place_of(request.path_params)
        return _json(await answer(request, place))
    except Exception as error:
        return error_response(error, request.url.path, place)


def place_of(parameters: dict[str, str]) -> Place:
    """The version that a path means.

    Raises:
        MalformedRequest: for a version that is no number, and a label that is one.
    """
    version, label = parameters.get("version"), parameters.get("label")
    if version is not None and not (version.isdecimal() and version.isascii() and len(version) < 20):
        raise MalformedRequest(f"Failed to convert version: {version[:40]} to numeric.")
    if label is not None and label.isdecimal():
        raise MalformedRequest(f"Unrecognized servable version label: {label[:40]}")
    return Place(parameters["model"], version, label)


def _json(document: dict[str, Any] | bytes) -> Response:
    if not isinstance(document, bytes):
        document = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(document)
