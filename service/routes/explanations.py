"""`GET /explanations/{id}` and its replay: an explanation found again, and computed again."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from service.bodies import JSON
from service.errors import ExplanationCancelled, ExplanationJobStateConflict, UnknownExplanation
from service.metrics import Metrics
from service.problems import problem_response
from service.records.global_forms import PARQUET, GlobalForms
from service.records.global_pictures import Plot
from service.records.job_desk import JobDesk
from service.records.jobs import UNFINISHED, ExplanationJob
from service.records.replay import Replayer
from service.records.store import ExplanationStore
from service.routes.documentation import responses
from service.routes.explain import ANSWER, PICTURES, QUEUED, wanted_media
from service.serving.explainer import Explainer

REPLAY = {"identical": True, "max_difference": 0.0, "differs_in": [], "explanation": ANSWER}


def explanation_routes(
    records: ExplanationStore,
    desk: JobDesk,
    replayer: Replayer,
    explainer: Explainer,
    global_forms: GlobalForms,
    metrics: Metrics,
) -> APIRouter:
    router = APIRouter(tags=["online"])

    @router.get(
        "/explanations/{explanation}",
        summary="A recorded explanation",
        description="The document as it was answered; 202 with progress while it is being computed, and the problem "
        "that ended it where one did. With `Accept: image/png` or `image/svg+xml`, its picture, where it holds one row "
        "and one target. A global explanation also comes as `application/vnd.apache.parquet`; its pictures are named "
        "by `plot`, `target` and `feature`.",
        responses={
            202: {"content": {JSON: {"example": QUEUED}}},
            **responses(
                404,
                406,
                409,
                410,
                422,
                503,
                example=ANSWER,
                media={media: {"schema": {"type": "string"}} for media in (*PICTURES, PARQUET)},
            ),
        },
    )
    async def read(
        request: Request,
        explanation: str,
        width: Annotated[int, Query(ge=200, le=4000, description="of a picture, in pixels")] = 800,
        theme: Annotated[Literal["light", "dark"], Query(description="of a picture")] = "light",
        plot: Annotated[Plot, Query(description="of a global explanation")] = "bar",
        target: Annotated[str | None, Query(description="of a picture of a global explanation")] = None,
        feature: Annotated[str | None, Query(description="of a dependence picture")] = None,
    ) -> Response:
        accept = request.headers.get("accept", "*/*")
        try:
            record = await asyncio.to_thread(records.get, explanation)
        except UnknownExplanation:
            job = await desk.find(explanation)
            if job is None or (job.status == "succeeded" and job.document is None):
                raise
            if job.document is None:
                return _unfinished(job)
            media = wanted_media(accept, [PARQUET])
            if media == JSON:
                return Response(job.document, media_type=JSON)
            content = await desk.arrays(explanation)
            if media == PARQUET:
                return Response(await global_forms.table(job, content), media_type=PARQUET)
            picture = await global_forms.picture(
                job, content, plot, target, feature, width=width, theme=theme, picture_format=PICTURES[media]
            )
            return Response(picture, media_type=media, headers={"X-Explanation-Id": job.id})
        media = wanted_media(accept)
        if media not in PICTURES:
            return Response(record.document, media_type=JSON)
        source = record.picture_source()
        picture = await explainer.picture(source, width=width, theme=theme, picture_format=PICTURES[media])
        return Response(picture, media_type=media, headers={"X-Explanation-Id": record.id})

    @router.delete(
        "/explanations/{explanation}",
        status_code=204,
        summary="Cancel an explanation that is not done",
        responses=responses(404, 409, 503),
    )
    async def cancel(explanation: str) -> Response:
        if not await desk.cancel(explanation):
            # One that was answered at once is done; 404 where there is none at all.
            await asyncio.to_thread(records.get, explanation)
            raise ExplanationJobStateConflict(explanation, "succeeded")
        return Response(status_code=204)

    @router.post(
        "/explanations/{explanation}/replay",
        summary="Compute an explanation again",
        description="With the version, method, seed and evaluations of its record, and without a clock. `identical` "
        "says whether every recorded number came out again, bit for bit; `max_difference` is the largest between two "
        "attributions, in units of the output; `differs_in` names the fields of the receipt that are different now.",
        responses=responses(404, 409, 503, example=REPLAY),
    )
    async def replay(request: Request, explanation: str) -> Response:
        answer = await replayer.replay(explanation, metrics.follow("replay", request.scope))
        return Response(orjson.dumps(answer), media_type=JSON)

    return router


def _unfinished(job: ExplanationJob) -> Response:
    """The answer of a job that has no document: how far it is, or why it ended."""
    if job.status in UNFINISHED:
        return Response(orjson.dumps(job.progress), 202, {"Retry-After": "1"}, JSON)
    if job.status == "failed" and job.problem is not None:
        return problem_response(orjson.loads(job.problem))
    raise ExplanationCancelled(job.id)
