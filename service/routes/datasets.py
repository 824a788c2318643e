"""`/datasets`: files uploaded, inspected, listed and removed."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from service.bodies import JSON
from service.data.desk import DatasetDesk
from service.routes.documentation import responses

SUMMARY = {
    "id": "5f2b7c0e9d…",
    "name": "loans.csv",
    "bytes": 1_204_113,
    "created_at": "2026-11-21T09:30:00.123Z",
    "format": "csv",
    "rows": 30_000,
    "columns": ["income", "zip", "defaulted"],
    "links": {"self": "/datasets/5f2b7c0e9d…"},
}
ANSWER = {**SUMMARY, "report": {"rows": 30_000, "duplicate_rows": 0, "columns": [], "remarks": []}}
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "target": {"type": "string", "description": "report on this column as the target, too"},
                    },
                }
            }
        },
    }
}


def dataset_routes(desk: DatasetDesk) -> APIRouter:
    router = APIRouter(prefix="/datasets", tags=["datasets"])

    @router.post(
        "",
        status_code=201,
        summary="Upload a data set",
        description="CSV, Parquet, NPZ, or a ZIP of images in class folders: found out by content. The id is the SHA-"
        "256 of the content: the same file sent again answers 200 with the same id. Nothing in it is ever executed.",
        openapi_extra=FORM,
        responses={
            200: {"description": "It was there already", "content": {JSON: {"example": ANSWER}}},
            201: {"content": {JSON: {"example": ANSWER}}},
            **responses(400, 408, 413, 415, 422, 503, 507),
        },
    )
    async def upload(request: Request) -> Response:
        document, is_new = await desk.upload(request)
        return Response(orjson.dumps(document), 201 if is_new else 200, {"Location": document["links"]["self"]}, JSON)

    @router.get(
        "", summary="The uploaded data sets, newest first", responses=responses(example={"datasets": [SUMMARY]})
    )
    async def list_datasets() -> Response:
        return Response(orjson.dumps({"datasets": await desk.list()}), media_type=JSON)

    @router.get(
        "/{dataset}",
        summary="One data set with its report",
        description="Kinds of the columns, missing and distinct values, duplicates; for a `target` also class balance, "
        "outliers, columns that are alike, and features that alone predict it.",
        responses=responses(404, 422, 503, example=ANSWER),
    )
    async def get_dataset(
        dataset: str,
        target: Annotated[str | None, Query(description="report on this column as the target, too")] = None,
    ) -> Response:
        document: dict[str, Any] = await desk.describe(dataset, target)
        return Response(orjson.dumps(document), media_type=JSON)

    @router.delete(
        "/{dataset}",
        status_code=204,
        summary="Remove a data set that no version and no job needs",
        responses=responses(404, 409, 503),
    )
    async def remove_dataset(dataset: str) -> Response:
        await desk.remove(dataset)
        return Response(status_code=204)

    return router
