"""The worker process: runs jobs from the queue, and takes over those of workers that have fallen silent."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic

from dbos import DBOS, DBOSPortableJSONSerializer, error
from sqlalchemy.exc import SQLAlchemyError

from models.attempts import Attempts
from models.database import open_database
from models.registry import Registry
from models.sources.folder import DataFolder
from service.errors import JobsUnavailable
from service.jobs.gpus import GpuSlots, find_gpus
from service.jobs.membership import NEVER_SEEN, Membership, Silence
from service.jobs.pruning import Pruner
from service.jobs.queue import (
    APPLICATION,
    APPLICATION_VERSION,
    QUEUE,
    TRIAL_WORKFLOW,
    TRIALS_QUEUE,
    WORKFLOW,
    JobQueue,
)
from service.jobs.schedules import Schedules
from service.jobs.trainers import Trainers
from service.jobs.workflows import define_workflows
from service.settings import Settings

logger = logging.getLogger("vitrine.worker")

WATCH_SECONDS = 0.25
AFTER_FAILURE_SECONDS = 5.0
PRUNE_SECONDS = 3600.0
BEATS_PER_SILENCE = 6
"""How many beats may be lost before a worker counts as silent."""


class WorkerNameTaken(Exception):
    """Another process is the worker of this name."""


def run_worker(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Jobs that are running then are taken over by other workers, or the next start.

    Raises:
        WorkerNameTaken: when a worker of this name runs in the same home.
    """
    settings.prepare_home()
    with _name_held(settings):
        engine = open_database(settings.registry_url)
        slots = GpuSlots(find_gpus(os.environ))
        at_once = settings.trainers_at_once(slots.count)
        trainers = Trainers(settings, Attempts(engine), slots)
        jobs, registry = JobQueue(settings.jobs_url, engine), Registry(engine)
        jobs.open()
        folder = DataFolder(settings.data_directory, settings.dataset_expanded_limit_bytes)
        schedules = Schedules(jobs, registry, folder)
        pruner = Pruner(settings, engine, registry, jobs, schedules, lambda: datetime.now(UTC))
        membership = Membership(engine, settings.worker_name)
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": settings.jobs_url,
                "application_version": APPLICATION_VERSION,
                "executor_id": settings.worker_name,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "WARNING",
                "notification_listener_polling_interval_sec": 0.5,
                "scheduler_polling_interval_sec": 5.0,
            }
        )
        define_workflows(trainers, schedules)
        logging.getLogger("dbos").addFilter(_is_news)
        stopped = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stopped.set())
        # Joined before anything runs: a worker that is not in the table cannot be missed.
        membership.join()
        DBOS.launch()
        # A job that searches runs no trainer while its trials do: each has its own queue, so that neither waits for
        # the other's place.
        for queue in (QUEUE, TRIALS_QUEUE):
            DBOS.register_queue(
                queue, worker_concurrency=at_once, polling_interval_sec=0.5, on_conflict="always_update"
            )
        heart = Heart(membership, Silence(settings.worker_silence_seconds), stopped)
        threading.Thread(
            target=heart.run, args=(settings.worker_silence_seconds / BEATS_PER_SILENCE,), daemon=True
        ).start()
        threading.Thread(target=_watch, args=(trainers,), daemon=True).start()
        threading.Thread(target=_prune, args=(pruner, f"worker {settings.worker_name}", stopped), daemon=True).start()
        for model in schedules.catch_up(datetime.now(UTC)):
            logger.info("the scheduled training of %s was missed, and runs now", model)
        logger.info("worker %s is ready: %d trainers at once, %d GPUs", settings.worker_name, at_once, slots.count)
        stopped.wait()
        logger.info("stopping; %d running jobs go on elsewhere or at the next start", trainers.stop())
        if heart.replaced:
            logger.error("another process has started as worker %s; set VITRINE_WORKER_ID", settings.worker_name)
            os._exit(3)
        _leave(membership)
        # Not DBOS.destroy(): the workflows wait for good, so that no step returns what a killed trainer looks like.
        os._exit(0)


class Heart:
    """Says that this worker lives, and listens for those that no longer do."""

    def __init__(self, membership: Membership, silence: Silence, stopped: threading.Event) -> None:
        self._membership, self._silence, self._stopped = membership, silence, stopped
        self._heard = True
        self.replaced = False

    def run(self, every_seconds: float) -> None:
        while not self._stopped.wait(every_seconds):
            try:
                self._beat()
            except SQLAlchemyError as failure:
                if self._heard:
                    logger.warning("the registry cannot be reached: %s", type(failure).__name__)
                self._heard = False
                self._silence.could_not_listen()
            except Exception:
                # A worker whose heart has stopped would count as dead while it works.
                logger.exception("a beat has failed; the next one comes")
                self._silence.could_not_listen()
            else:
                self._heard = True

    def _beat(self) -> None:
        if not self._membership.beat():
            self.replaced = True
            self._stopped.set()
            return
        pulses = self._membership.pulses()
        for worker in _workers_with_jobs():
            pulses.setdefault(worker, NEVER_SEEN)
        pulses.pop(self._membership.worker, None)
        for worker in self._silence.silent(pulses, monotonic()):
            # Each job moves only while it is still the silent worker's: two workers may do this at once.
            taken = DBOS._recover_pending_workflows([worker])
            logger.warning("worker %s is silent: %d of its jobs are queued again", worker, len(taken))
            self._membership.forget(worker, pulses[worker])


def _workers_with_jobs() -> set[str]:
    running = DBOS.list_workflows(
        name=[WORKFLOW, TRIAL_WORKFLOW], status="PENDING", load_input=False, load_output=False
    )
    return {status.executor_id for status in running if status.executor_id}


def _is_news(record: logging.LogRecord) -> bool:
    """DBOS logs a cancelled workflow as an exception, with its stack; that a job was cancelled is said by us."""
    error_type = record.exc_info[0] if record.exc_info else None
    return error_type is None or not issubclass(error_type, error.DBOSAwaitedWorkflowCancelledError)


def _watch(trainers: Trainers) -> None:
    pause = threading.Event()
    while True:
        pause.wait(WATCH_SECONDS)
        try:
            trainers.watch()
        except SQLAlchemyError:
            # The next look is in a moment; Heart says that the database is away.
            continue
        except Exception:
            # A look that has failed must not be the last: cancelled jobs are stopped by the next one.
            logger.exception("the trainers could not be looked at; looking again in %g s", AFTER_FAILURE_SECONDS)
            pause.wait(AFTER_FAILURE_SECONDS)


def _prune(pruner: Pruner, by: str, stopped: threading.Event) -> None:
    """Now and then, what is old enough to go."""
    while not stopped.wait(PRUNE_SECONDS):
        try:
            pruner.prune(by=by, dry_run=False)
        except (SQLAlchemyError, JobsUnavailable) as failure:
            logger.warning("nothing was pruned (%s); the next round comes", type(failure).__name__)
        except Exception:
            logger.exception("nothing was pruned; the next round comes")


def _leave(membership: Membership) -> None:
    try:
        membership.leave()
    except SQLAlchemyError as failure:
        logger.warning("could not say goodbye (%s): others notice the silence", type(failure).__name__)


@contextmanager
def _name_held(settings: Settings) -> Iterator[None]:
    """Holds the worker's name within the home; the kernel lets go when the process ends, however it ends."""
    with (settings.run_directory / f"worker-{settings.worker_name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WorkerNameTaken(
                f"A worker named {settings.worker_name} runs in {settings.home.resolve()} already. "
                "Give this one a name of its own with VITRINE_WORKER_ID."
            ) from None
        yield
