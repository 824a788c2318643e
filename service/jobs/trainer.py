"""The trainer: one process per attempt of a job, in which everything heavy of it happens. It dies with its worker."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from models.artifact import Artifact, open_artifact, open_version
from models.attempts import Attempts
from models.changes import predecessor_of
from models.checkpoint import discard_checkpoints
from models.cores import limit_tensorflow
from models.database import open_database
from models.errors import (
    CorruptVersion,
    DiskFull,
    InvalidDataset,
    InvalidSpec,
    LossNotFinite,
    ModelDoesNotFit,
    NoGpu,
    NotEnoughMemory,
    Overtaken,
    UnknownModel,
    UnreadableData,
    UnsafeModelFile,
    VitrineError,
    WarmStartImpossible,
)
from models.lean_keras import import_keras
from models.public import told
from models.registry import CHAMPION, ModelRecord, Registry, is_outdated
from models.sources.folder import DataFolder
from service.jobs.memory import TrainerMemory
from service.jobs.patience import patiently
from service.jobs.progress import JobProgress
from service.logs import add_to_context, configure_logging
from service.processes import hold_lifeline
from service.settings import Settings, read_settings

if TYPE_CHECKING:
    from models.gates.gate import Champion
    from models.search.trials import Trial
    from models.spec import TrainingSpec

logger = logging.getLogger("vitrine.trainer")

NICE = 10
"""A trainer takes every core for minutes: predictions on the same machine go first."""
PROGRESS_SECONDS = 0.25
"""Epochs that are shorter are not each written down."""
AWAY_SECONDS = 5.0
"""Epochs that are not written down after the database could not be reached."""


def version_directory(versions: Path, model: str, job: str) -> Path:
    return versions / model / job


def main() -> None:
    """`python -m service.jobs.trainer WORK ATTEMPT SPEC RESULT_FD [JOB TRIAL]`: builds the version of a job, or runs a
    trial of its search, and says to the pipe how it went."""
    hold_lifeline()
    os.nice(NICE)
    work, attempt, document, descriptor = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
    job, trial = (sys.argv[5], int(sys.argv[6])) if len(sys.argv) > 5 else (work, None)
    settings = read_settings(os.environ)
    configure_logging("trainer", log_format=settings.log_format, log_level=settings.log_level)
    add_to_context(job=job, model=document["model"])
    limit_tensorflow(settings.cores_in_use)
    try:
        if trial is None:
            logger.info("job %s, attempt %d", job, attempt)
            result = train(job, attempt, document)
        else:
            logger.info("job %s, trial %d, attempt %d", job, trial, attempt)
            result = try_out_trial(work, attempt, document, job, trial)
    except Overtaken as overtaken:
        logger.warning("%s", overtaken)
        result = {"overtaken": True}
    except Exception as error:
        logger.exception("the %s failed", "job" if trial is None else f"trial {trial}")
        result = {"error": in_words(error)}
    with os.fdopen(descriptor, "w") as pipe:
        json.dump(result, pipe)


def train(job: str, attempt: int, document: dict[str, Any]) -> dict[str, Any]:
    """Builds the version of a job, or takes the one that an earlier attempt finished. Returns task, gates and what
    changed against the champion.

    Raises:
        Overtaken: when a later attempt has begun.
    """
    settings = read_settings(os.environ)
    directory = version_directory(settings.versions_directory, document["model"], job)
    checkpoints = settings.checkpoints_directory / job
    try:
        built = open_artifact(directory)
        logger.info("an earlier attempt has finished this version")
    except CorruptVersion:
        _build(job, attempt, document, directory, settings, checkpoints)
        # Read back: where another attempt was first, its version is the one.
        built = open_artifact(directory)
    discard_checkpoints(checkpoints)
    return {
        "task": built.card["task"],
        "gates": _current_gates(built, document, settings),
        "changes": built.card["data"]["changes"]["changes"],
    }


def data_folder(settings: Settings) -> DataFolder:
    """Where jobs find their files."""
    return DataFolder(settings.data_directory, settings.dataset_expanded_limit_bytes)


def _current_gates(built: Artifact, document: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    """The verdicts of the card, or those that hold beside another champion than the card's."""
    gates = built.card["gates"]
    champion = _champion(document, settings)
    if not is_outdated(gates, champion.version if champion else None):
        return gates
    from models.gates.again import judge_again

    logger.info("comparing with the champion that there is now")
    return judge_again(built, gates, champion, data_folder(settings))


def _champion(document: dict[str, Any], settings: Settings) -> Champion | None:
    """The version to compare with, where a gate asks for it."""
    if not document["gates"].get("not_worse_than_champion"):
        return None
    from models.gates.gate import Champion

    record = _registered(document, settings)
    if record is None or CHAMPION not in record.aliases:
        return None
    held = record.resolve(CHAMPION)
    return Champion(held.version, Path(held.directory))


def _earlier(document: dict[str, Any], settings: Settings) -> Artifact | None:
    """The version whose weights the fit begins with, where it does.

    Raises:
        UnknownModel, UnknownVersion, CorruptVersion: when it is not there any more, or damaged.
    """
    if not document.get("warm_start"):
        return None
    record = _registered(document, settings)
    if record is None:
        raise UnknownModel(document["model"], [])
    return open_version(record.resolve(str(document["from"])))


def _registered(document: dict[str, Any], settings: Settings) -> ModelRecord | None:
    engine = open_database(settings.registry_url)
    try:
        return patiently(lambda: Registry(engine).models(), "the registry").get(document["model"])
    finally:
        engine.dispose()


def try_out_trial(work: str, attempt: int, document: dict[str, Any], job: str, trial: int) -> dict[str, Any]:
    """Runs a trial of a job's search, or goes on with one that was killed. Returns its state.

    Raises:
        Overtaken: when a later attempt has begun.
    """
    import_keras()
    from models.search.trials import Trials
    from models.search.trying import try_out
    from models.spec import parse_spec

    settings = read_settings(os.environ)
    engine = open_database(settings.registry_url)
    attempts, trials = Attempts(engine), Trials(engine, job)
    checkpoints = settings.checkpoints_directory / f"{job}-{trial}"
    data = data_folder(settings)
    spec = parse_spec(document, data.facts_of)
    state = try_out(
        spec,
        trials,
        trial,
        checkpoints=checkpoints,
        fence=lambda: patiently(lambda: attempts.check(work, attempt), "the registry"),
        data=data,
    )
    logger.info("trial %d: %s", trial, state)
    discard_checkpoints(checkpoints)
    JobProgress(engine).write(job, "searching", search_figures(spec, trials.all()))
    return {"state": state}


def search_figures(spec: TrainingSpec, trials: Sequence[Trial]) -> dict[str, Any]:
    """How far a search is, for those who watch."""
    from models.search.outcome import best_trial

    assert spec.search is not None
    best = best_trial(spec.search, trials)
    return {
        "trials": spec.search.trials,
        "done": sum(trial.state != "running" for trial in trials),
        "pruned": sum(trial.state == "pruned" for trial in trials),
        "failed": sum(trial.state == "failed" for trial in trials),
        "metric": spec.search.metric,
        "best": best.value if best else None,
    }


def _build(
    job: str, attempt: int, document: dict[str, Any], directory: Path, settings: Settings, checkpoints: Path
) -> None:
    engine = open_database(settings.registry_url)
    attempts, registry = Attempts(engine), Registry(engine)
    impatient = open_database(settings.registry_url, lock_wait_ms=1000)
    reports = ProgressReports(JobProgress(impatient), job, monotonic)
    reports.step("loading")
    # Imported here: TensorFlow takes seconds, and the first step should show before.
    import_keras()
    from models.building import Reporter, build_version
    from models.importing.keras_file import stored_file
    from models.importing.version import Around, import_version
    from models.search.outcome import searched
    from models.search.trials import Trials
    from models.spec import parse_spec
    from models.spec.importing import parse_import
    from models.training import EpochReport

    def report_epoch(report: EpochReport) -> None:
        figures = {
            "epoch": report.epoch,
            "epochs": report.epochs,
            "metrics": report.metrics,
            "seconds_left": report.seconds_left,
            **({"fold": report.fold, "folds": report.folds} if report.fold else {}),
            **({"warning": report.warning} if report.warning else {}),
        }
        reports.epoch(figures, last=report.epoch == report.epochs)

    def fence() -> None:
        patiently(lambda: attempts.check(job, attempt), "the registry")

    data = data_folder(settings)
    fence()
    reporter = Reporter(reports.step, report_epoch, fence=fence, gate=reports.gate, evaluation=reports.evaluation)
    before = patiently(lambda: predecessor_of(registry, document["model"]), "the registry")
    if "file" in document:
        imported = parse_import(document, data.facts_of)
        file = stored_file(settings.imports_directory, imported.file)
        around = Around(data, before, lambda: _champion(document, settings))
        with TrainerMemory(impatient).noted(job, document["model"]):
            import_version(imported, file, directory, reporter, around)
        return
    spec, search = parse_spec(document, data.facts_of), None
    if spec.search is not None:
        spec, search = searched(spec, Trials(impatient, job).all())
    with TrainerMemory(impatient).noted(job, document["model"]):
        build_version(
            spec,
            directory,
            reporter,
            checkpoints,
            data=data,
            before=before,
            champion_now=lambda: _champion(document, settings),
            earlier=_earlier(document, settings),
            search=search,
        )


class ProgressReports:
    """Writes down how far a job is, at most so often. A database that is away costs a report, never the training."""

    def __init__(self, progress: JobProgress, job: str, clock: Callable[[], float]) -> None:
        self._progress, self._job, self._clock = progress, job, clock
        self._next_at = clock()
        self._figures: dict[str, Any] = {}

    def step(self, step: str) -> None:
        logger.info("%s", step)
        self._write(step, None)

    def gate(self, gate: str, judged: int, gates: int) -> None:
        """The epoch figures stay: they say how the fit ended."""
        self._write("gating", {**self._figures, "gate": gate, "gates_judged": judged, "gates": gates})

    def epoch(self, figures: dict[str, Any], *, last: bool) -> None:
        self._figures = figures
        if last or self._clock() >= self._next_at:
            self._write("fitting", figures)

    def evaluation(self, part: str, done: int, parts: int) -> None:
        logger.info("evaluating: %s", part)
        self._write("evaluating", {**self._figures, "part": part, "parts_done": done, "parts": parts})

    def _write(self, step: str, figures: dict[str, Any] | None) -> None:
        try:
            self._progress.write(self._job, step, figures)
            self._next_at = self._clock() + PROGRESS_SECONDS
        except SQLAlchemyError as error:
            logger.warning("progress was not written down: %s", type(error).__name__)
            self._next_at = self._clock() + AWAY_SECONDS


def in_words(error: Exception) -> dict[str, str]:
    """Why a job failed, as title and detail that its user can act on."""
    match error:
        case InvalidSpec() | InvalidDataset() | UnreadableData():
            return {"title": "The data and the specification do not fit", "detail": str(error)}
        case WarmStartImpossible():
            return {"title": "The weights do not fit the network", "detail": str(error)}
        case LossNotFinite():
            return {"title": "The loss is not a finite number", "detail": str(error)}
        case DiskFull():
            return {"title": "The disk is full", "detail": str(error)}
        case NotEnoughMemory():
            return {"title": "Not enough memory", "detail": str(error)}
        case NoGpu():
            return {"title": "There is no GPU", "detail": str(error)}
        case UnsafeModelFile() | ModelDoesNotFit():
            return {"title": "The model cannot be imported", "detail": str(error)}
        case VitrineError():
            return {"title": "Training failed", "detail": str(error)}
        # TensorFlow's own: of a GPU, or of an allocation that the system refused. Not imported for its name alone.
        case _ if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            detail = "The memory of this machine was not enough. Lower training.batch_size or the width of the layers."
            return {"title": "Out of memory", "detail": f"{detail} Then resume the job, or train anew."}
        case OSError(errno=errno.ENOSPC):
            return {"title": "The disk is full", "detail": "The disk is full. Free some space and resume the job."}
        case _:
            detail = f"{told(error)}. GET /train/<job>/logs has the details; resume tries again."
            return {"title": "Training failed", "detail": detail}


if __name__ == "__main__":
    main()
