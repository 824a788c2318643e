"""`POST /explain`: JSON, or a picture where the client asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response

from explain.caption import PictureFormat, Theme
from models.errors import Fault
from models.rows import describe
from service.bodies import JSON, parse_body, read_json
from service.errors import InvalidRequest, NotAcceptable
from service.formats.requests import FORMATS, read_request
from service.metrics import Metrics, RequestMeter
from service.receiving import unless_gone
from service.records.job_desk import JobDesk
from service.routes.documentation import request_body, responses
from service.routes.predict import EXAMPLE, check_row_count
from service.schemas import ExplainRequest, GlobalExplainRequest
from service.serving.explainer import Explainer, to_json
from service.serving.traffic import Traffic
from service.serving.vertex import vertex_explanations
from service.settings import Settings

PNG = "image/png"
SVG = "image/svg+xml"
PICTURES: dict[str, PictureFormat] = {PNG: "png", SVG: "svg"}
PICTURE_MEDIA = {media: {"schema": {"type": "string"}} for media in PICTURES}
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

QUEUED = {
    "id": "01KAJ5ZV3M9W8W4D9J7YQ2T6RB",
    "created_at": "2026-11-21T09:30:00.123Z",
    "model": "diabetes",
    "version": 1,
    "status": "queued",
    "progress": {"rows": 0, "total_rows": 500},
    "links": {"self": "/explanations/01KAJ5ZV3M9W8W4D9J7YQ2T6RB"},
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an explanation is to be answered: in which form, and when."""

    media: str
    width: int
    theme: Theme
    later: bool


class ExplainAnswers:
    """Answers requests for explanations of rows, wherever the rows come from."""

    def __init__(
        self, explainer: Explainer, traffic: Traffic, desk: JobDesk, metrics: Metrics, settings: Settings
    ) -> None:
        self._explainer, self._traffic, self._desk = explainer, traffic, desk
        self.metrics, self.settings = metrics, settings

    async def answer(self, request: Request, body: ExplainRequest, wanted: Wanted, meter: RequestMeter) -> Response:
        """JSON, or a picture; 202 where it is wanted later."""
        check_row_count(body, self.settings.max_rows)
        if wanted.media in PICTURES:
            _check_picture(body)
        body = self._traffic.directed(body, request.scope)
        meter.end("read")
        # What is fetched later is in our own form.
        if wanted.later and self._desk.is_open and body.format == "vitrine":
            return accepted(await self._desk.take_rows(body, meter), {"Preference-Applied": "respond-async"})
        explained = await unless_gone(request.receive, self._explainer.explain(body, meter))
        self.metrics.note_explanations(explained.served.record.model, explained.estimates)
        if wanted.media not in PICTURES and body.format == "vertex":
            predictions = [row["prediction"] for row in explained.document["explanations"]]
            return Response(to_json(vertex_explanations(explained, predictions)), media_type=JSON)
        if wanted.media not in PICTURES:
            return Response(explained.answer, media_type=JSON)
        drawing = self._explainer.picture(
            explained.picture_source(),
            width=wanted.width,
            theme=wanted.theme,
            picture_format=PICTURES[wanted.media],
        )
        picture = await unless_gone(request.receive, drawing)
        meter.end("draw")
        return Response(picture, media_type=wanted.media, headers={"X-Explanation-Id": explained.document["id"]})

    async def take_global(self, body: GlobalExplainRequest, meter: RequestMeter) -> Response:
        return accepted(await self._desk.take_global(body, meter), {})


def explain_routes(answering: ExplainAnswers) -> APIRouter:
    metrics, settings = answering.metrics, answering.settings
    router = APIRouter(tags=["online"])

    @router.post(
        "/explain",
        summary="Explain rows",
        description="Predictions with attributions, their standard errors and a receipt. With `Accept: image/png` or "
        "`image/svg+xml`, a picture of one row and one target, with a description in words inside; its id is in "
        "`X-Explanation-Id`. With `Prefer: respond-async`, 202 at once, and the same answer later at its `Location`. "
        "Where answers are kept (`VITRINE_CACHE_BYTES`), `Cache-Status` says whether this one was computed.",
        openapi_extra=request_body(ExplainRequest, {"diabetes": {**EXAMPLE, "top_k": 1}}, FORMATS),
        responses={
            202: {"content": {JSON: {"example": QUEUED}}},
            **responses(400, 404, 406, 413, 415, 422, 503, example=ANSWER, media=PICTURE_MEDIA),
        },
    )
    async def explain(
        request: Request,
        width: Annotated[int, Query(ge=200, le=4000, description="of a picture, in pixels")] = 800,
        theme: Annotated[Literal["light", "dark"], Query(description="of a picture")] = "light",
        prefer: Annotated[list[str] | None, Header(description="`respond-async`: answer later")] = None,
    ) -> Response:
        meter = metrics.follow("explain", request.scope)
        media = wanted_media(request.headers.get("accept", "*/*"))
        body, _ = await read_request(
            request.scope, request.receive, ExplainRequest, settings, others=("width", "theme")
        )
        wanted = Wanted(media, width, theme, later=prefers_async(prefer or ()))
        return await answering.answer(request, body, wanted, meter)

    @router.post(
        "/explain/global",
        status_code=202,
        summary="Explain a version over many rows",
        description="Mean absolute attributions with their intervals, and how attributions follow the values of their "
        "features, over rows of the version's own data or over inputs. Answered later, at the `Location`: as JSON, as "
        "Parquet (`Accept: application/vnd.apache.parquet`, a line for each row, target and feature), or as a picture.",
        openapi_extra=request_body(GlobalExplainRequest, {"diabetes": {"model": "diabetes", "dataset": "test"}}),
        responses={202: {"content": {JSON: {"example": QUEUED}}}, **responses(400, 404, 409, 413, 415, 422, 503)},
    )
    async def explain_globally(request: Request) -> Response:
        meter = metrics.follow("explain-global", request.scope)
        body = parse_body(
            await read_json(request.scope, request.receive, settings.body_limit_bytes), GlobalExplainRequest
        )
        _check_rows_of(body)
        meter.end("read")
        return await answering.take_global(body, meter)

    return router


def accepted(progress: dict[str, Any], headers: dict[str, str]) -> Response:
    """202: what was asked will be there."""
    headers = {"Location": progress["links"]["self"], "Retry-After": "1", **headers}
    return Response(orjson.dumps(progress), 202, headers, JSON)


def prefers_async(headers: Sequence[str]) -> bool:
    """Whether a `Prefer` header (RFC 7240) asks for an answer later."""
    preferences = (part.partition(";")[0].strip().lower() for header in headers for part in header.split(","))
    return "respond-async" in preferences


def wanted_media(accept: str, others: Sequence[str] = ()) -> str:
    """JSON or a kind of picture, by an Accept header: what it names first and we have is taken.

    Args:
        others: what there is besides.

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
        if kind in PICTURES or kind in others:
            return kind
        if kind == "image/*":
            return PNG
    raise NotAcceptable(accept, [JSON, *PICTURES, *others])


def _check_rows_of(body: GlobalExplainRequest) -> None:
    """Raises `InvalidRequest` unless the rows come from one place."""
    if body.inputs is not None and body.dataset is not None:
        raise InvalidRequest([Fault("#/dataset", "null: the rows are those of inputs", describe(body.dataset))])
    if body.inputs is not None and len(body.inputs) > body.max_rows:
        raise InvalidRequest([Fault("#/inputs", f"at most max_rows, {body.max_rows}", f"{len(body.inputs)} rows")])


def _check_picture(body: ExplainRequest) -> None:
    faults = []
    if len(body.inputs) != 1:
        faults.append(Fault("#/inputs", "one row for a picture", f"{len(body.inputs)} rows"))
    if isinstance(body.target, list) and len(body.target) != 1:
        faults.append(Fault("#/target", "one target for a picture", f"{len(body.target)} targets"))
    if faults:
        raise InvalidRequest(faults)
