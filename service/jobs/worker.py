"""The worker process: runs jobs from the queue, and takes up again those that its last life left."""

from __future__ import annotations

import logging
import os
import signal
import threading

from dbos import DBOS, DBOSPortableJSONSerializer

from models.database import open_database
from models.registry import Registry
from service.jobs.progress import JobProgress
from service.jobs.queue import APPLICATION, APPLICATION_VERSION, QUEUE, prepare_jobs_database
from service.jobs.workflows import Trainers, define_workflows
from service.settings import Settings

logger = logging.getLogger("vitrine.worker")


def run_worker(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Jobs that are running then are taken up again by the next start."""
    settings.prepare_home()
    prepare_jobs_database(settings.jobs_url)
    engine = open_database(settings.registry_url)
    trainers = Trainers(settings)
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": settings.jobs_url,
            "application_version": APPLICATION_VERSION,
            "executor_id": settings.worker_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.5,
        }
    )
    define_workflows(trainers, Registry(engine), JobProgress(engine))
    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    DBOS.launch()
    DBOS.register_queue(
        QUEUE, worker_concurrency=settings.trainers, polling_interval_sec=0.5, on_conflict="always_update"
    )
    logger.info("worker %s is ready: %d trainers at once", settings.worker_id, settings.trainers)
    stopped.wait()
    logger.info("stopping; %d running jobs go on at the next start", len(trainers.running))
    trainers.stop()
    # Not DBOS.destroy(): the workflows wait for good, so that no step returns what a killed trainer would look like.
    os._exit(0)
