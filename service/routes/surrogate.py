"""`GET /models/{m}/versions/{v}/surrogate`: a small decision tree in place of the network, and how nearly it says the
same. As JSON, as text, or as a picture."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from explain.caption import GlobalCaption
from models.artifact import open_artifact
from models.errors import NoSurrogate
from models.evaluation.tree_words import fidelity_in_words, tree_as_text, tree_rows
from models.registry import Registry
from service.bodies import JSON
from service.routes.documentation import responses
from service.routes.explain import PICTURES, wanted_media
from service.serving.compute import ComputeClient

TEXT = "text/plain"
EXAMPLE = {
    "model": "breast-cancer",
    "version": 3,
    "task": "classification",
    "target": "diagnosis",
    "labels": ["malignant", "benign"],
    "depth": 1,
    "leaves": 2,
    "learned_rows": 361,
    "fidelity": {"rows": 104, "r2": 0.66, "accuracy": 0.923, "accuracy_of_commonest_label": 0.587},
    "r2_by_depth": {"1": 0.66},
    "root": {
        "rows": 361,
        "label": "benign",
        "probabilities": {"malignant": 0.37, "benign": 0.63},
        "feature": "mean concave points",
        "threshold": 0.05142,
        "missing": "yes",
        "yes": {"rows": 213, "label": "benign", "probabilities": {"malignant": 0.05, "benign": 0.95}},
        "no": {"rows": 148, "label": "malignant", "probabilities": {"malignant": 0.93, "benign": 0.07}},
    },
}


def surrogate_routes(registry: Registry, compute: ComputeClient) -> APIRouter:
    router = APIRouter(prefix="/models", tags=["models"])

    @router.get(
        "/{model}/versions/{version}/surrogate",
        summary="A small decision tree that says nearly what the version says",
        description="In raw features and their units, with `fidelity` on test rows: how often it predicts the "
        "network's label, and R2 against the network's outputs. Rows go to `yes` where the feature is at most the "
        "threshold, and to `missing` where it has no value. Also as `text/plain` and as a picture (`image/png`, "
        "`image/svg+xml`).",
        responses=responses(
            404,
            406,
            422,
            503,
            example=EXAMPLE,
            media={media: {"schema": {"type": "string"}} for media in (TEXT, *PICTURES)},
        ),
    )
    async def get_surrogate(
        request: Request,
        model: str,
        version: str,
        width: Annotated[int, Query(ge=200, le=4000, description="of a picture, in pixels")] = 800,
        theme: Annotated[Literal["light", "dark"], Query(description="of a picture")] = "light",
    ) -> Response:
        media = wanted_media(request.headers.get("accept", "*/*"), [TEXT])
        record = (await asyncio.to_thread(registry.model, model)).resolve(version)
        artifact = await asyncio.to_thread(open_artifact, Path(record.directory))
        document = artifact.card.get("surrogate")
        if document is None:
            raise NoSurrogate(model, record.version, "it was built before there were any; train it anew")
        if document["root"] is None:
            raise NoSurrogate(model, record.version, document["reason"])
        if media == JSON:
            return Response(orjson.dumps({"model": model, "version": record.version, **document}), media_type=JSON)
        if media == TEXT:
            title = f"{model} v{record.version} as a decision tree: "
            return Response(title + tree_as_text(document), media_type=TEXT)
        picture = {**_drawing(model, record.version, document), "width": width, "theme": theme}
        drawn = compute.submit("tree", picture_format=PICTURES[media], **picture)
        return Response(await asyncio.wrap_future(drawn), media_type=media)

    return router


def _drawing(model: str, version: int, document: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `explain.pictures.tree.tree`."""
    rows = list(tree_rows(document))
    return {
        "depths": [row.depth for row in rows],
        "branches": [row.branch for row in rows],
        "words": [row.words for row in rows],
        "rows": [row.rows for row in rows],
        "leaves": [row.is_leaf for row in rows],
        "caption": GlobalCaption(
            title=f"{model} v{version} as a decision tree",
            output=document["target"],
            method=fidelity_in_words(document),
            rows=document["learned_rows"],
        ),
    }
