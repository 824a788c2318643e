"""`/models`: what there is, the cards, and where aliases point."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Request, Response

from models.artifact import open_version
from models.errors import CorruptVersion, Fault, in_full
from models.registry import AliasMove, ModelRecord, Registry, VersionRecord, failed_gates
from models.rows import describe
from models.spec.importing import ImportSpec
from models.traffic import PARTS
from service.bodies import JSON, parse_body, read_json
from service.errors import InvalidRequest
from service.imports import Importer, example_spec
from service.jobs.pruning import Pruner
from service.routes.documentation import form_body, request_body, responses
from service.schemas import AliasAnswer, ModelList, MoveAliasRequest, PruneRequest, RollbackRequest, TrafficRequest
from service.serving.engine_report import report_of_files
from service.serving.pool import ModelPool
from service.serving.shadow import Shadow
from service.settings import Settings

logger = logging.getLogger("vitrine.api")

MAX_MOVES = 100
"""Alias moves shown of a model; the registry keeps all of them."""

SPLIT = {"champion": 90, "challenger": 10}
PRUNED = {
    "dry_run": True,
    "versions": [{"model": "iris", "version": 1, "reason": "not one of the latest 5, and nothing needs it"}],
    "kept": [{"model": "iris", "version": 2, "reason": "champion points at it"}],
    "checkpoints": ["01KAJ5ZV3M9W8W4D9J7YQ2T6RB"],
    "imports": ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
}
AliasName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]*$", max_length=63)]


def model_routes(
    registry: Registry, pool: ModelPool, shadow: Shadow, pruner: Pruner, importer: Importer, settings: Settings
) -> APIRouter:
    router = APIRouter(prefix="/models", tags=["models"])

    @router.get("", summary="Every model", response_model=ModelList)
    async def list_models() -> dict[str, Any]:
        models = await asyncio.to_thread(registry.models)
        return {"models": [_summary(model, pool) for model in models.values()]}

    @router.post(
        "/prune",
        summary="Delete old versions that nothing needs, checkpoints of jobs that were given up, imported files",
        description="Kept are the latest versions of each model, those that an alias or its rollback points at, and "
        "those that recorded explanations, schedules or unfinished jobs need. A deletion is recorded; a number is "
        "never given twice. Checkpoints and imported files go when they have reached their age; an imported file stays "
        "while a version or an unfinished job has it.",
        openapi_extra=request_body(PruneRequest, {"only say": {"keep_versions": 5, "dry_run": True}}),
        responses=responses(400, 404, 415, 422, 503, example=PRUNED),
    )
    async def prune(request: Request) -> dict[str, Any]:
        body = parse_body(await read_json(request.scope, request.receive, settings.body_limit_bytes), PruneRequest)
        pruned = await asyncio.to_thread(
            pruner.prune, keep=body.keep_versions, model=body.model, by="api", dry_run=body.dry_run
        )
        return {"dry_run": body.dry_run, **pruned.to_json()}

    @router.get("/{model}", summary="One model: its versions and its latest alias moves", responses=responses(404, 503))
    async def get_model(model: str) -> dict[str, Any]:
        record = await asyncio.to_thread(registry.model, model)
        moves = await asyncio.to_thread(registry.moves, model, limit=MAX_MOVES)
        held = [
            {
                "version": version.version,
                "created_at": version.created_at,
                "job": version.job,
                "gates": version.gates,
                "memory": _memory(model, version.version, pool),
                "links": {"self": f"/models/{model}/versions/{version.version}", "job": f"/train/{version.job}"},
            }
            for version in record.versions
        ]
        return {**_summary(record, pool), "versions": held, "moves": moves, "shadow": shadow.document(model)}

    @router.get(
        "/{model}/versions/{version}",
        summary="The card of a version, by number or alias",
        description="`engine` says what predicts for it here, and why: as was measured when it was loaded, else as its "
        "files say.",
        responses=responses(404, 503),
    )
    async def get_version(model: str, version: str) -> Response:
        record = (await asyncio.to_thread(registry.model, model)).resolve(version)
        artifact = await asyncio.to_thread(open_version, record)
        decisions = await asyncio.to_thread(registry.decisions, model, record.version)
        served = pool.served(model, record.version)
        engine = served.engine if served else report_of_files(artifact, settings.engine)
        card = {
            "model": model,
            "version": record.version,
            "job": record.job,
            "engine": engine.to_json(),
            "decisions": decisions,
            **{name: value for name, value in artifact.card.items() if name != "model"},
            "signature": artifact.signature.to_json(),
            "files": artifact.hashes,
        }
        return Response(orjson.dumps(card), media_type=JSON)

    @router.post(
        "/{model}/versions",
        status_code=202,
        summary="Import a .keras file as a version",
        description="A form of two parts: `file`, and `spec` with a data set, or with what is given of the model. The "
        "file is checked at once, and loaded by a job, in a process of its own: no Lambda, no code from the file.",
        openapi_extra=form_body(ImportSpec, example_spec()),
        responses={202: {}, **responses(400, 404, 409, 413, 415, 422, 503, 507)},
    )
    async def import_version(
        request: Request,
        model: str,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Response:
        job = await importer.accept(request, model, idempotency_key)
        return Response(orjson.dumps(job), 202, {"Location": job["links"]["self"]}, JSON)

    @router.put(
        "/{model}/aliases/{alias}",
        summary="Point an alias at a version, whose files are checked first",
        response_model=AliasAnswer,
        openapi_extra=request_body(MoveAliasRequest, {"promote": {"version": 3, "reason": "reviewed by the team"}}),
        responses=responses(400, 404, 409, 415, 422, 503),
    )
    async def move_alias(request: Request, model: str, alias: AliasName) -> AliasMove:
        body = parse_body(await read_json(request.scope, request.receive, settings.body_limit_bytes), MoveAliasRequest)
        if body.force and not body.reason.strip():
            raise InvalidRequest([Fault("#/reason", "a reason for the forced move", describe(body.reason))])

        def move() -> AliasMove:
            record = registry.model(model).resolve(str(body.version))
            if body.force or not failed_gates(record.gates):
                # Not to find out only when it is loaded. Failed gates are the registry's to refuse, and to record.
                _check_files(record)
            return registry.move_alias(
                model, alias, str(record.version), by="api", reason=body.reason, force=body.force
            )

        moved = await asyncio.to_thread(move)
        await pool.settle(model)
        return moved

    @router.put(
        "/{model}/traffic",
        summary="Split the requests that name no version between aliases",
        description="Parts of a hundred. Requests with the same `X-Traffic-Key` are answered by the same alias, others "
        "by chance. All for the champion ends the split.",
        openapi_extra=request_body(TrafficRequest, {"one in ten": {"champion": 90, "challenger": 10}}),
        responses=responses(400, 404, 415, 422, 503, example={"model": "diabetes", "traffic": SPLIT}),
    )
    async def split_traffic(request: Request, model: str) -> dict[str, Any]:
        document = await read_json(request.scope, request.receive, settings.body_limit_bytes)
        shares = parse_body(document, TrafficRequest).root
        if sum(shares.values()) != PARTS:
            raise InvalidRequest(
                [Fault("#", f"shares that sum to {PARTS}", f"{shares}, which sum to {sum(shares.values())}")]
            )
        await asyncio.to_thread(registry.split_traffic, model, shares, by="api")
        await pool.settle(model)
        return {"model": model, "traffic": (await asyncio.to_thread(registry.model, model)).traffic}

    @router.post(
        "/{model}/rollback",
        summary="Point champion back at what it was before",
        response_model=AliasAnswer,
        openapi_extra=request_body(RollbackRequest, {"rollback": {"reason": "worse on live data"}}),
        responses=responses(400, 404, 409, 415, 422, 503),
    )
    async def rollback(request: Request, model: str) -> AliasMove:
        body = parse_body(await read_json(request.scope, request.receive, settings.body_limit_bytes), RollbackRequest)

        def move() -> AliasMove:
            _check_files(registry.rollback_target(model))
            return registry.rollback(model, by="api", reason=body.reason)

        moved = await asyncio.to_thread(move)
        await pool.settle(model)
        return moved

    return router


def _check_files(record: VersionRecord) -> None:
    """Raises `CorruptVersion`; the log says where the files are."""
    try:
        open_version(record)
    except CorruptVersion as error:
        logger.warning("no alias is moved: %s", in_full(error))
        raise


def _memory(model: str, version: int, pool: ModelPool) -> dict[str, Any]:
    """Whether a version is loaded in this process and its compute process, what it takes, and whether it stays."""
    n_bytes, failure = pool.residents.bytes_of((model, version)), pool.failure(model, version)
    if n_bytes is not None:
        state, failure = "loaded", None
    elif pool.is_loading(model, version):
        state = "loading"
    else:
        state = "unloaded" if failure is None else "failed"
    return {"state": state, "bytes": n_bytes, "stays": pool.is_pinned(model, version), "error": failure}


def _summary(model: ModelRecord, pool: ModelPool) -> dict[str, Any]:
    loaded = pool.loaded(model.name)
    return {
        "name": model.name,
        "task": model.task,
        "aliases": model.aliases,
        "traffic": model.traffic,
        "versions": [version.version for version in model.versions],
        "loaded": loaded,
        "engines": {
            str(version): {"name": served.engine.name, "reason": served.engine.reason}
            for version in loaded
            if (served := pool.served(model.name, version)) is not None
        },
        "memory_bytes": pool.memory_bytes(model.name),
    }
