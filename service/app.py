"""The composition root of the API process: what exists, and who is given what."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp

from models.database import now, open_database
from models.registry import Registry
from models.sources.folder import DataFolder
from service import problems
from service.background import kept_up
from service.data.desk import DatasetDesk
from service.draining import Drain
from service.entrance import Entrance
from service.errors import JobsUnavailable
from service.heads import HeadsAsGets
from service.identifiers import new_id
from service.imports import Importer
from service.jobs.figures import JobFiguresReader
from service.jobs.pruning import Pruner
from service.jobs.queue import JobQueue
from service.jobs.schedules import Schedules
from service.metrics import Metrics
from service.records.global_forms import GlobalForms
from service.records.job_desk import JobDesk
from service.records.job_runner import ExplanationJobRunner
from service.records.jobs import ExplanationJobStore
from service.records.keeping import Keeping
from service.records.prediction_recorder import CLOSE_SECONDS, PredictionRecorder, in_words
from service.records.prediction_store import PredictionStore
from service.records.predictions import NoteEncoder
from service.records.recorder import Recorder, keep_nothing
from service.records.replay import Replayer
from service.records.retention import sweep_for_ever
from service.records.store import ExplanationStore
from service.records.table import open_records_database
from service.records.writer import RecordWriter
from service.routes.datasets import dataset_routes
from service.routes.direct import DirectRoute, DirectRoutes
from service.routes.explain import ExplainAnswers, explain_routes
from service.routes.explanations import explanation_routes
from service.routes.models import model_routes
from service.routes.operations import operation_routes, readiness
from service.routes.predict import PredictAnswer, predict_routes
from service.routes.predictions import prediction_routes
from service.routes.schedules import schedule_routes
from service.routes.surrogate import surrogate_routes
from service.routes.train import train_routes
from service.routes.v1.routes import V1, v1_routes
from service.routes.v1.routes import direct_routes as v1_direct_routes
from service.routes.v2.explain import TensorExplanations
from service.routes.v2.infer import Inference
from service.routes.v2.infer import direct_routes as v2_direct_routes
from service.routes.v2.routes import v2_routes
from service.routes.v2.statistics import InferenceStatistics
from service.scrape import RecordFigures, ServingFigures, StoreFigures
from service.serving.batcher import Batching
from service.serving.cache import CacheFigures, CacheStatus, ResponseCache
from service.serving.choosing import rules_of
from service.serving.compute import ComputeClient
from service.serving.explainer import Explainer
from service.serving.memory import default_budget_bytes, memory_limit_bytes
from service.serving.patient import PatientExplainer
from service.serving.pool import ModelPool
from service.serving.predictor import Predictor
from service.serving.preload import Preload
from service.serving.reference_client import ReferenceClient
from service.serving.shadow import Shadow, ShadowFigures
from service.serving.traffic import Traffic
from service.settings import Settings

logger = logging.getLogger("vitrine.api")

LOCK_WAIT_MS = 5000
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own: our metrics and logs say as much, and asking whether it is on costs as much as a small network."""
COLLECTOR_THRESHOLDS = (10_000, 20, 50)
"""Requests leave no cycles behind; Python's own thresholds (700, 10, 10) look for some after every few of them."""
SWITCH_SECONDS = 0.0005
"""A prediction must not wait Python's 5 ms whenever a thread loads a version or writes records."""
DESCRIPTION = "A model server in which every prediction can be explained."


def create_app(settings: Settings, drain: Drain) -> ASGIApp:
    """The application, with its compute process and database connections started by its lifespan."""
    settings.prepare_home()
    # A request should not wait for a lock as long as a job may.
    engine = open_database(settings.registry_url, lock_wait_ms=LOCK_WAIT_MS)
    registry = Registry(engine)
    records_engine = open_records_database(settings.registry_url)
    records = ExplanationStore(
        records_engine,
        retention=timedelta(days=settings.explanation_retention_days),
        clock=lambda: datetime.now(UTC),
    )
    writer = RecordWriter(records.insert)
    keeping = Keeping(settings.record_inputs, frozenset(settings.redacted_features))
    recorder = Recorder(writer, keeping)
    predictions = PredictionStore(
        records_engine,
        retention=timedelta(days=settings.prediction_retention_days),
        max_records=settings.keep_predictions,
        taken=in_words(settings.record_predictions),
        clock=lambda: datetime.now(UTC),
    )
    encoder = NoteEncoder(keeping, registry)
    prediction_recorder = PredictionRecorder(
        lambda notes: predictions.insert(encoder.records(notes)), rate=settings.record_predictions
    )
    jobs = JobQueue(settings.jobs_url, engine)
    compute = ComputeClient(settings.logs_directory / "compute.log")
    metrics = Metrics()
    cache = ResponseCache[Any](settings.cache_bytes) if settings.cache_bytes else None
    CacheFigures(cache, metrics.registry)
    pool = ModelPool(
        registry,
        compute,
        refresh_ms=settings.refresh_ms,
        loaded_versions=settings.loaded_versions,
        memory_bytes=settings.model_memory_bytes or default_budget_bytes(memory_limit_bytes()),
        preload=Preload.of(settings.preload),
        batching=Batching(settings.max_waiting_rows, settings.pad_batches, metrics.note_call, metrics.in_flight.is_one),
        cache=cache,
        rules=rules_of(settings),
    )
    shadow = Shadow(pool, now)
    folder = DataFolder(settings.data_directory, settings.dataset_expanded_limit_bytes)
    folder.sweep(before=time.time() - settings.upload_timeout_ms / 1000 - settings.inspection_seconds)
    schedules = Schedules(jobs, registry, folder)
    pruner = Pruner(settings, engine, registry, jobs, schedules, lambda: datetime.now(UTC))
    ShadowFigures(shadow, metrics.registry)
    reference = ReferenceClient(settings.logs_directory / "reference.log")
    keep = recorder.keep if settings.record_explanations else keep_nothing
    explainer = Explainer(pool, compute, reference, keep, cache)
    explanation_jobs = ExplanationJobStore(
        engine, retention=timedelta(days=settings.explanation_retention_days), clock=lambda: datetime.now(UTC)
    )
    runner = ExplanationJobRunner(
        explanation_jobs,
        records,
        pool,
        explainer,
        PatientExplainer(compute, reference, folder),
        owner=new_id(),
        keeping=keeping,
        note=metrics.note_explanations,
    )
    datasets = DatasetDesk(folder, settings, registry, jobs, schedules, lambda: datetime.now(UTC))
    desk = JobDesk(explanation_jobs, runner, pool, explainer, is_open=settings.record_explanations)

    def readiness_now() -> dict[str, Any]:
        recorded = {"explanations": writer.problem, "predictions": prediction_recorder.problem}
        return readiness(pool, recorded, drain)

    serving = ServingFigures(pool, compute, lambda: readiness_now()["status"], metrics.registry)
    RecordFigures(prediction_recorder, metrics.registry)
    stores = StoreFigures(JobFiguresReader(jobs, engine, time.time).read, metrics.registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if rpc is not None:
            await rpc.start()
        compute.start()
        writer.start()
        prediction_recorder.start()
        # What exists now stays: the collector need not look through it again and again beside predictions.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        sys.setswitchinterval(SWITCH_SECONDS)
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "following the registry": pool.follow,
            "opening the jobs": lambda: _begin(serving, jobs),
            "sweeping explanations": lambda: sweep_for_ever(records.sweep, "explanations"),
            "sweeping predictions": lambda: sweep_for_ever(predictions.sweep, "predictions"),
            "sweeping explanation jobs": lambda: sweep_for_ever(explanation_jobs.sweep, "explanation jobs"),
            "running explanation jobs": runner.run_for_ever,
            "resting the process for shap": reference.rest_when_idle,
            "following the challengers": shadow.follow,
        }
        tasks = [asyncio.create_task(kept_up(work, name)) for name, work in works.items()]
        yield
        if rpc is not None:
            await rpc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.to_thread(runner.release)
        shadow.close()
        pool.close()
        await asyncio.to_thread(reference.close)
        await asyncio.to_thread(compute.close)
        await asyncio.to_thread(writer.close, seconds=3)
        await asyncio.to_thread(prediction_recorder.close, seconds=CLOSE_SECONDS)
        jobs.close()
        records.close()
        engine.dispose()

    app = FastAPI(
        title="Vitrine",
        version=version("vitrine"),
        description=DESCRIPTION,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        # They name the scheme that arrives here, which behind TLS is another than the client's.
        redirect_slashes=False,
    )
    traffic, predictor = Traffic(pool), Predictor(pool, shadow)
    predict = PredictAnswer(predictor, traffic, prediction_recorder, metrics, settings)
    app.include_router(predict_routes(predict))
    answering = ExplainAnswers(explainer, traffic, desk, metrics, settings)
    app.include_router(explain_routes(answering))
    app.include_router(prediction_routes(predictions, answering))
    replayer = Replayer(records, pool, explainer)
    app.include_router(explanation_routes(records, desk, replayer, explainer, GlobalForms(pool, compute), metrics))
    app.include_router(dataset_routes(datasets))
    app.include_router(train_routes(jobs, datasets, registry, metrics, settings))
    app.include_router(schedule_routes(schedules, datasets, settings))
    app.include_router(
        model_routes(registry, pool, shadow, pruner, Importer(jobs, datasets, metrics, settings), settings)
    )
    app.include_router(surrogate_routes(registry, compute))
    v1 = V1(pool, traffic, predictor, explainer, metrics, settings)
    app.include_router(v1_routes(v1))
    app.include_router(operation_routes(readiness_now, metrics, stores))
    statistics = InferenceStatistics()
    infer = Inference(pool, traffic, shadow, prediction_recorder, metrics, statistics, settings)
    tensor_explanations = TensorExplanations(pool, traffic, explainer, metrics, settings)
    app.include_router(v2_routes(pool, infer, tensor_explanations, statistics, readiness_now, settings))
    rpc = None
    if settings.grpc_port is not None:
        # Imported where they are wanted: gRPC's library takes 12 MiB.
        from service.rpc.calls import Calls
        from service.rpc.methods import STREAM, RpcMethods
        from service.rpc.server import RpcServer

        methods = RpcMethods(pool, infer, tensor_explanations, statistics, readiness_now, drain, settings)
        called = methods if cache is None else CacheStatus(methods)
        entrance = Entrance(called, drain, metrics, body_seconds=settings.receive_timeout_ms / 1000)
        rpc = RpcServer(Calls(entrance, methods.unary, frozenset({STREAM})), drain, settings, settings.grpc_port)
    problems.install(app)
    _complete_document(app)
    direct = [DirectRoute("/predict", predict), *v1_direct_routes(v1), *v2_direct_routes(infer)]
    answers = DirectRoutes(HeadsAsGets(app), direct)
    return Entrance(
        answers if cache is None else CacheStatus(answers),
        drain,
        metrics,
        body_seconds=settings.receive_timeout_ms / 1000,
        upload_seconds=dict.fromkeys(("/datasets", r"/models/[^/]+/versions"), settings.upload_timeout_ms / 1000),
    )


async def _begin(serving: ServingFigures, jobs: JobQueue) -> None:
    """Notes when requests can be served, and opens the jobs then."""
    await serving.note_first_ready()
    try:
        await asyncio.to_thread(jobs.open)
    except JobsUnavailable:
        # Whoever asks for a job tries again, and is told.
        logger.warning("the job database cannot be reached", exc_info=True)
    # What this has imported stays, too.
    gc.freeze()


def _complete_document(app: FastAPI) -> None:
    """Makes `/openapi.json` say what is true of every route."""
    generated = app.openapi

    @cache
    def whole() -> dict[str, Any]:
        # Imported when it is first asked for: the models of all answers take a tenth of a second.
        from service.openapi import complete

        return complete(generated())

    app.openapi = whole
