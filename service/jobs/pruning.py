"""What is old enough to go: versions that nothing needs, checkpoints of jobs that were given up, imported files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from models.artifact import CARD
from models.database import reader_of
from models.registry import Registry, VersionRecord
from models.retention import Retention, Verdict, VersionKey, judge_versions
from service.jobs.queue import JobQueue
from service.jobs.schedules import Schedules
from service.records.jobs import explanation_jobs_table
from service.records.prediction_store import predictions_table
from service.records.store import explanations_table
from service.settings import Settings

logger = logging.getLogger("vitrine.retention")

KEEP_ALL = 2**31


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go. `kept` are the versions that stay although they are not among the latest."""

    versions: list[Verdict]
    kept: list[Verdict]
    checkpoints: list[str]
    imports: list[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "versions": [_version(verdict) for verdict in self.versions],
            "kept": [_version(verdict) for verdict in self.kept],
            "checkpoints": self.checkpoints,
            "imports": self.imports,
        }


class Pruner:
    """Used by the API when it is asked to, and by workers now and then."""

    def __init__(
        self,
        settings: Settings,
        engine: sa.Engine,
        registry: Registry,
        jobs: JobQueue,
        schedules: Schedules,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._registry, self._jobs, self._schedules = settings, registry, jobs, schedules
        self._reader, self._retention, self._clock = reader_of(engine), Retention(engine), clock

    def prune(self, *, keep: int | None = None, model: str | None = None, by: str, dry_run: bool) -> Pruned:
        """Deletes what may go, or only says what would.

        Args:
            keep: the latest versions of each model that stay in any case; None: as the settings say, where nothing
                said means all.
            model: of this one alone, and neither checkpoints nor imported files.
        """
        keep = keep or self._settings.keep_versions or KEEP_ALL
        records = self._registry.models()
        if model is not None:
            records = {model: self._registry.model(model)}
        verdicts = judge_versions(records.values(), self._needed(), keep=keep, rollbacks=self._retention.rollbacks())
        going = [verdict for verdict in verdicts if verdict.delete]
        if not dry_run:
            gone = {(record.model, record.version) for record in self._retention.delete(going, by=by)}
            going = [verdict for verdict in going if (verdict.record.model, verdict.record.version) in gone]
        latest = f"one of the latest {keep}"
        kept = [verdict for verdict in verdicts if not verdict.delete and verdict.reason != latest]
        if model is not None:
            return Pruned(going, kept, [], [])
        staying = [verdict.record for verdict in verdicts if not verdict.delete]
        return Pruned(
            going, kept, self._prune_checkpoints(dry_run=dry_run), self._prune_imports(staying, dry_run=dry_run)
        )

    def _needed(self) -> dict[VersionKey, str]:
        needed = dict.fromkeys(self._recorded(predictions_table), "predictions of it are recorded")
        for table in (explanations_table, explanation_jobs_table):
            needed |= dict.fromkeys(self._recorded(table), "explanations of it are recorded")
        needed |= dict.fromkeys(self._schedules.needed_versions(), "a schedule trains from it")
        unfinished = {job["job"]: job for job in self._jobs.unfinished()}
        for job in unfinished.values():
            if (version := job["spec"].get("from")) is not None:
                needed[job["model"], version] = f"job {job['job']}, which is {job['status']}, trains from it"
        for record in self._registry.models().values():
            for version in record.versions:
                if version.job in unfinished:
                    needed[record.name, version.version] = f"its job {version.job} has not finished"
        return needed

    def _recorded(self, table: sa.Table) -> set[VersionKey]:
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(table.c.model, table.c.version).distinct())
            return {(row.model, row.version) for row in rows}

    @property
    def _oldest(self) -> float:
        """Unix seconds: what has changed since then is kept for a job that may be resumed."""
        return self._clock().timestamp() - self._settings.checkpoint_retention_days * 86_400

    def _prune_imports(self, staying: list[VersionRecord], *, dry_run: bool) -> list[str]:
        """SHA-256 of the `.keras` files that came so many days ago, and that no version and no unfinished job has."""
        oldest = self._oldest
        for leftover in self._settings.imports_directory.glob(".*.writing"):
            if not dry_run and _last_written(leftover) < oldest:
                shutil.rmtree(leftover, ignore_errors=True)
        found = sorted(self._settings.imports_directory.glob("*.keras"))
        old = {path.stem: path for path in found if path.stat().st_mtime < oldest}
        if not old:
            return []
        needed = {job["spec"].get("file") for job in self._jobs.unfinished()}
        needed |= {_imported_file(Path(record.directory)) for record in staying}
        going = [sha256 for sha256 in old if sha256 not in needed]
        if not dry_run:
            for sha256 in going:
                logger.info("the imported file %s has reached its age and is deleted", old[sha256].name)
                old[sha256].unlink(missing_ok=True)
        return going

    def _prune_checkpoints(self, *, dry_run: bool) -> list[str]:
        """Folders of jobs that are not waiting or running, and in which nothing was written for so many days."""
        folder = self._settings.checkpoints_directory
        oldest = self._oldest
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        old = [path for path in found if path.is_dir() and _last_written(path) < oldest]
        if not old:
            return []
        active = {job["job"] for job in self._jobs.unfinished()}
        # A trial's folder is named by its job and its number.
        going = [path for path in old if path.name.partition("-")[0] not in active]
        if not dry_run:
            for path in going:
                logger.info("the checkpoints of job %s have reached their age and are deleted", path.name)
                shutil.rmtree(path, ignore_errors=True)
        return [path.name for path in going]


def _last_written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def _imported_file(directory: Path) -> str | None:
    """The SHA-256 of the file that a version was imported from; None for one that was fitted, or whose card is gone."""
    try:
        card = orjson.loads((directory / CARD).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return card.get("imported", {}).get("file_sha256")


def _version(verdict: Verdict) -> dict[str, Any]:
    return {"model": verdict.record.model, "version": verdict.record.version, "reason": verdict.reason}
