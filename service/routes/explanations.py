"""`GET /explanations/{id}` and its replay: an explanation found again, and computed again."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from service.bodies import JSON
from service.metrics import Metrics
from service.records.replay import Replayer
from service.records.store import ExplanationStore
from service.routes.documentation import responses
from service.routes.explain import ANSWER, PICTURES, wanted_media
from service.serving.explainer import Explainer

REPLAY = {"identical": True, "max_difference": 0.0, "differs_in": [], "explanation": ANSWER}


def explanation_routes(
    records: ExplanationStore, replayer: Replayer, explainer: Explainer, metrics: Metrics
) -> APIRouter:
    router = APIRouter(tags=["online"])

    @router.get(
        "/explanations/{explanation}",
        summary="A recorded explanation",
        description="The document as it was answered. With `Accept: image/png` or `image/svg+xml`, its picture, "
        "where it holds one row and one target.",
        responses=responses(
            404, 406, 409, 422, 503, example=ANSWER, media={media: {"schema": {"type": "string"}} for media in PICTURES}
        ),
    )
    async def read(
        request: Request,
        explanation: str,
        width: Annotated[int, Query(ge=200, le=4000, description="of a picture, in pixels")] = 800,
        theme: Annotated[Literal["light", "dark"], Query(description="of a picture")] = "light",
    ) -> Response:
        media = wanted_media(request.headers.get("accept", "*/*"))
        record = await asyncio.to_thread(records.get, explanation)
        if media not in PICTURES:
            return Response(record.document, media_type=JSON)
        source = record.picture_source()
        picture = await explainer.picture(source, width=width, theme=theme, picture_format=PICTURES[media])
        return Response(picture, media_type=media, headers={"X-Explanation-Id": record.id})

    @router.post(
        "/explanations/{explanation}/replay",
        summary="Compute an explanation again",
        description="With the version, method, seed and evaluations of its record, and without a clock. `identical` "
        "says whether every recorded number came out again, bit for bit; `max_difference` is the largest between two "
        "attributions, in units of the output; `differs_in` names the fields of the receipt that are different now.",
        responses=responses(404, 409, 503, example=REPLAY),
    )
    async def replay(request: Request, explanation: str) -> Response:
        answer = await replayer.replay(explanation, metrics.follow("replay", request))
        return Response(orjson.dumps(answer), media_type=JSON)

    return router
