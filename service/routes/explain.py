"""`POST /explain`: JSON, or a picture where the client asks for one."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from explain.caption import PictureFormat
from models.errors import Fault
from service.bodies import JSON, parse_body, read_json
from service.errors import InvalidRequest, NotAcceptable
from service.metrics import Metrics
from service.receiving import unless_gone
from service.routes.documentation import request_body, responses
from service.routes.predict import EXAMPLE, check_row_count
from service.schemas import ExplainRequest
from service.serving.explainer import Explainer
from service.settings import Settings

PNG = "image/png"
SVG = "image/svg+xml"
PICTURES: dict[str, PictureFormat] = {PNG: "png", SVG: "svg"}
ANSWER = {
    "id": "01KAJ5ZV3M9W8W4D9J7YQ2T6RB",
    "created_at": "2026-11-21T09:30:00.123Z",
    "model": "diabetes",
    "version": 1,
    "explanations": [
        {
            "prediction": {"value": 206.1},
            "evaluations": 76800,
            "stop_reason": "exact",
            "targets": [
                {
                    "target": "progression",
                    "base_value": 152.1,
                    "value": 206.1,
                    "attributions": [{"feature": "bmi", "value": 32.1, "attribution": 21.4, "standard_error": 0.0}],
                    "omitted": 32.6,
                    "efficiency_residual": 2e-6,
                    "max_standard_error": 0.0,
                }
            ],
        }
    ],
    "receipt": {
        "method": "exact",
        "estimand": "shapley",
        "output": "value",
        "seed": 0,
        "engine": "onnxruntime",
        "recorded": True,
    },
}


def explain_routes(explainer: Explainer, metrics: Metrics, settings: Settings) -> APIRouter:
    router = APIRouter(tags=["online"])

    @router.post(
        "/explain",
        summary="Explain rows",
        description="Predictions with attributions, their standard errors and a receipt. With `Accept: image/png` or "
        "`image/svg+xml`, a picture of one row and one target, with a description in words inside; its id is in "
        "`X-Explanation-Id`.",
        openapi_extra=request_body(ExplainRequest, {"diabetes": {**EXAMPLE, "top_k": 1}}),
        responses=responses(
            400,
            404,
            406,
            413,
            415,
            422,
            503,
            example=ANSWER,
            media={media: {"schema": {"type": "string"}} for media in PICTURES},
        ),
    )
    async def explain(
        request: Request,
        width: Annotated[int, Query(ge=200, le=4000, description="of a picture, in pixels")] = 800,
        theme: Annotated[Literal["light", "dark"], Query(description="of a picture")] = "light",
    ) -> Response:
        meter = metrics.follow("explain", request)
        media = wanted_media(request.headers.get("accept", "*/*"))
        body = parse_body(await read_json(request, settings.body_limit_bytes), ExplainRequest)
        check_row_count(body, settings.max_rows)
        if media in PICTURES:
            _check_picture(body)
        meter.end("read")
        explained = await unless_gone(request, explainer.explain(body, meter))
        metrics.note_explanations(explained.served.record.model, explained.estimates)
        if media not in PICTURES:
            return Response(explained.answer, media_type=JSON)
        drawing = explainer.picture(
            explained.picture_source(), width=width, theme=theme, picture_format=PICTURES[media]
        )
        picture = await unless_gone(request, drawing)
        meter.end("draw")
        return Response(picture, media_type=media, headers={"X-Explanation-Id": explained.document["id"]})

    return router


def wanted_media(accept: str) -> str:
    """JSON or a kind of picture, by an Accept header: what it names first and we have is taken.

    Raises:
        NotAcceptable: when it names nothing that we have.
    """
    ranges = []
    for place, part in enumerate(accept.split(",")):
        kind, _, parameters = part.strip().lower().partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        ranges.append((-quality, place, kind.strip()))
    for quality, _, kind in sorted(ranges):
        if quality == 0:
            continue
        if kind in (JSON, "application/*", "*/*", ""):
            return JSON
        if kind in PICTURES:
            return kind
        if kind == "image/*":
            return PNG
    raise NotAcceptable(accept, [JSON, *PICTURES])


def _check_picture(body: ExplainRequest) -> None:
    faults = []
    if len(body.inputs) != 1:
        faults.append(Fault("#/inputs", "one row for a picture", f"{len(body.inputs)} rows"))
    if isinstance(body.target, list) and len(body.target) != 1:
        faults.append(Fault("#/target", "one target for a picture", f"{len(body.target)} targets"))
    if faults:
        raise InvalidRequest(faults)
