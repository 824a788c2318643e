"""The composition root of the API process: what exists, and who is given what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from models.database import open_database
from models.registry import Registry
from service import problems
from service.draining import Drain
from service.jobs.queue import JobQueue, prepare_jobs_database
from service.metrics import MeasuredRequests, Metrics
from service.requests import AnsweredRequests
from service.routes.explain import explain_routes
from service.routes.models import model_routes
from service.routes.operations import operation_routes
from service.routes.predict import predict_routes
from service.routes.train import train_routes
from service.serving.compute import ComputeClient
from service.serving.explainer import Explainer
from service.serving.pool import ModelPool
from service.serving.predictor import Predictor
from service.settings import Settings

DESCRIPTION = "A model server in which every prediction can be explained."


def create_app(settings: Settings, drain: Drain) -> FastAPI:
    """The application, with its compute process and database connections started by its lifespan."""
    settings.prepare_home()
    prepare_jobs_database(settings.jobs_url)
    engine = open_database(settings.registry_url)
    registry = Registry(engine)
    jobs = JobQueue(settings.jobs_url, engine)
    compute = ComputeClient(settings.logs_directory / "compute.log")
    pool = ModelPool(registry, compute, refresh_ms=settings.refresh_ms, loaded_versions=settings.loaded_versions)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        compute.start()
        following = asyncio.create_task(pool.follow())
        yield
        following.cancel()
        await asyncio.to_thread(compute.close)
        jobs.close()
        engine.dispose()

    app = FastAPI(title="Vitrine", version=version("vitrine"), description=DESCRIPTION, lifespan=lifespan)
    app.include_router(predict_routes(Predictor(pool), metrics, settings))
    app.include_router(explain_routes(Explainer(pool, compute), metrics, settings))
    app.include_router(train_routes(jobs, metrics, settings))
    app.include_router(model_routes(registry, pool, settings))
    app.include_router(operation_routes(pool, compute, metrics, settings, drain))
    problems.install(app)
    # The last one added is the outermost.
    app.add_middleware(AnsweredRequests, drain=drain)
    app.add_middleware(MeasuredRequests, metrics=metrics)
    return app
