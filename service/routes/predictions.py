"""`/predictions/{id}`: a recorded prediction, and why the version that made it answered so."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response

from models.errors import Fault, UnknownModel, UnknownVersion
from service.bodies import JSON, parse_body, parse_json, read_body
from service.errors import InvalidRequest, VersionGone
from service.records.prediction_store import PredictionStore
from service.routes.documentation import request_body, responses
from service.routes.explain import ANSWER as EXPLANATION
from service.routes.explain import PICTURE_MEDIA, QUEUED, ExplainAnswers, Wanted, prefers_async, wanted_media
from service.routes.predict import ANSWER, DIABETES_ROW
from service.schemas import ExplainPredictionRequest, ExplainRequest

PREDICTION = {
    **ANSWER,
    "created_at": "2026-11-21T09:30:00.123Z",
    "inputs": [DIABETES_ROW],
    "redacted": [],
}


def prediction_routes(predictions: PredictionStore, answering: ExplainAnswers) -> APIRouter:
    router = APIRouter(tags=["online"])

    @router.get(
        "/predictions/{prediction}",
        summary="A recorded prediction",
        description="What was answered, and the inputs as they were sent; null where none are kept. `redacted` names "
        "the features whose values are missing there. Which predictions are recorded, and for how long, is set by "
        "`VITRINE_RECORD_PREDICTIONS`.",
        responses=responses(404, 503, example=PREDICTION),
    )
    async def read(prediction: str) -> Response:
        record = await asyncio.to_thread(predictions.get, prediction)
        return Response(orjson.dumps(record.document), media_type=JSON)

    @router.post(
        "/predictions/{prediction}/explain",
        summary="Explain a recorded prediction",
        description="As `POST /explain` with the inputs of the prediction, by the version that made it, whatever "
        "serves now. The body is optional; `rows` chooses among the rows of the request. 409 where inputs were not "
        "kept, or some of them redacted; 410 where the version has been deleted.",
        openapi_extra=_optional(request_body(ExplainPredictionRequest, {"three features": {"top_k": 3}})),
        responses={
            202: {"content": {JSON: {"example": QUEUED}}},
            **responses(400, 404, 406, 409, 410, 413, 415, 422, 503, example=EXPLANATION, media=PICTURE_MEDIA),
        },
    )
    async def explain(
        request: Request,
        prediction: str,
        width: Annotated[int, Query(ge=200, le=4000, description="of a picture, in pixels")] = 800,
        theme: Annotated[Literal["light", "dark"], Query(description="of a picture")] = "light",
        prefer: Annotated[list[str] | None, Header(description="`respond-async`: answer later")] = None,
    ) -> Response:
        meter = answering.metrics.follow("explain", request.scope)
        media = wanted_media(request.headers.get("accept", "*/*"))
        sent = await read_body(request.scope, request.receive, answering.settings.body_limit_bytes)
        options = parse_body(await parse_json(sent or b"{}"), ExplainPredictionRequest)
        record = await asyncio.to_thread(predictions.get, prediction)
        body = ExplainRequest(
            model=record.model,
            version=record.version,
            inputs=_chosen(record.inputs("explained"), options.rows),
            **options.model_dump(exclude={"rows"}),
        )
        wanted = Wanted(media, width, theme, later=prefers_async(prefer or ()))
        try:
            return await answering.answer(request, body, wanted, meter)
        except (UnknownModel, UnknownVersion):
            raise VersionGone(record.id, record.model, record.version) from None

    return router


def _chosen(inputs: list[Any], rows: list[int] | None) -> list[Any]:
    """Raises `InvalidRequest` where there is no such row."""
    if rows is None:
        return inputs
    faults = [
        Fault(f"#/rows/{place}", f"a row of the request, 0 to {len(inputs) - 1}", str(row))
        for place, row in enumerate(rows)
        if row >= len(inputs)
    ]
    if faults:
        raise InvalidRequest(faults)
    return [inputs[row] for row in rows]


def _optional(documented: dict[str, Any]) -> dict[str, Any]:
    documented["requestBody"]["required"] = False
    return documented
