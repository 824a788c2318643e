"""What the API does with data sets: takes uploads, has files inspected, lists them, and removes what nobody needs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from fastapi import Request

from models.database import in_rfc_3339
from models.errors import Fault, InvalidSpec, UnreadableData
from models.registry import Registry
from models.sources.folder import CONTENT, DataFolder, Stored
from models.sources.profile import Profile
from models.sources.report import describe_profile
from models.spec.data import DatasetSpec
from service.data.receiving import receive_file
from service.errors import DatasetInUse, InspectionFailed
from service.jobs.queue import FINISHED, JobQueue
from service.jobs.schedules import Schedules
from service.processes import forget_child, start_child
from service.settings import Settings

AT_ONCE = 2
"""Files that are inspected at the same time; others wait."""
FIELDS = ("target",)
MAX_JOBS = 1000


class DatasetDesk:
    def __init__(
        self,
        folder: DataFolder,
        settings: Settings,
        registry: Registry,
        jobs: JobQueue,
        schedules: Schedules,
        clock: Callable[[], datetime],
    ) -> None:
        self.folder, self._settings, self._clock = folder, settings, clock
        self._registry, self._jobs, self._schedules = registry, jobs, schedules
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def upload(self, request: Request) -> tuple[dict[str, Any], bool]:
        """Takes a file in. Returns its document, and whether it is new.

        Raises:
            UnreadableData: when it holds no data set; nothing of it is kept.
            InvalidSpec: when `target` cannot be one; the file is kept.
        """
        aside = await asyncio.to_thread(self.folder.new_upload)
        try:
            received = await receive_file(
                request,
                aside / CONTENT,
                limit_bytes=self._settings.dataset_limit_bytes,
                idle_seconds=self._settings.receive_timeout_ms / 1000,
                known_fields=FIELDS,
            )
            created_at = in_rfc_3339(self._clock().astimezone(UTC))
            stored = Stored(received.sha256, received.name, received.bytes, created_at)
            target = received.fields.get("target")
            if not await asyncio.to_thread(self._is_new, stored.id):
                return await self.describe(stored.id, target), False
            try:
                found = await self._inspect({"file": str(aside / CONTENT), "target": target})
            except InvalidSpec:
                await asyncio.to_thread(self.folder.keep, aside, stored)
                raise
            is_new = await asyncio.to_thread(self.folder.keep, aside, stored)
        finally:
            await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
        document = await self.describe(stored.id)
        if target is not None:
            document["report"]["by_target"] = found["report"]
        return document, is_new

    def _is_new(self, id_: str) -> bool:
        return all(one.id != id_ for one in self.folder.stored())

    async def describe(self, id_: str, target: str | None = None) -> dict[str, Any]:
        """The document of one upload with its report. Raises `UnknownDataset`, and `InvalidSpec` for a bad target."""
        stored = await asyncio.to_thread(self.folder.find, id_)
        dataset = DatasetSpec(id=stored.id)
        profile = await self.prepare(dataset)
        report = describe_profile(profile)
        if target is not None:
            found = await self._inspect({"dataset": dataset.model_dump(), "target": target})
            report["by_target"] = found["report"]
        return {**_summary(stored, profile), "report": report}

    async def list(self) -> list[dict[str, Any]]:
        """Every upload, newest first, without its report."""

        def read() -> list[dict[str, Any]]:
            return [_summary(one, self.folder.known_profile(DatasetSpec(id=one.id))) for one in self.folder.stored()]

        return await asyncio.to_thread(read)

    async def prepare(self, dataset: DatasetSpec) -> Profile:
        """Has a file inspected that is not known yet.

        Raises:
            InvalidSpec: when there is none, or it holds no data set.
        """
        known = await asyncio.to_thread(self.folder.known_profile, dataset)
        if known is None:
            await self._inspect({"dataset": dataset.model_dump(), "target": None})
            known = await asyncio.to_thread(self.folder.profile, dataset)
        return known

    async def remove(self, id_: str) -> None:
        """Removes an upload.

        Raises:
            UnknownDataset: when there is none.
            DatasetInUse: when a version was built from it, or a job that has not finished or a schedule needs it.
        """

        def remove() -> None:
            stored = self.folder.find(id_)
            if users := self._users(stored.id):
                raise DatasetInUse(stored.id, users)
            self.folder.remove(stored.id)

        await asyncio.to_thread(remove)

    def _users(self, id_: str) -> list[str]:
        """The versions, jobs and schedules that need an upload, in words."""
        users = [f"the schedule of {model}" for model, named in self._schedules.needed_datasets() if named == id_]
        for job in self._jobs.jobs(limit=MAX_JOBS):
            if job["status"] not in FINISHED and job["spec"].get("dataset", {}).get("id") == id_:
                users.append(f"job {job['job']}")
        for model in self._registry.models().values():
            for version in model.versions:
                if _dataset_of(Path(version.directory)) == id_:
                    users.append(f"version {version.version} of {model.name}")
        return users

    async def _inspect(self, order: dict[str, Any]) -> dict[str, Any]:
        async with self._turns:
            text = await asyncio.to_thread(self._run, order)
        if text is None:
            raise InspectionFailed(f"took longer than {self._settings.inspection_seconds:g} s")
        if not text:
            raise InspectionFailed("ended its process early (out of memory?)")
        found = orjson.loads(text)
        faults = [Fault(*fault) for fault in found.get("faults", ())]
        match found.get("refused"):
            case "data":
                raise UnreadableData(faults)
            case "spec":
                raise InvalidSpec(faults)
            case "memory":
                raise InspectionFailed("took more memory than there is")
        return found

    def _run(self, order: dict[str, Any]) -> bytes | None:
        """Runs an inspector to its end: what it said, or None when it took too long."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as pipe:
            try:
                process = start_child(
                    "service.data.inspector",
                    [json.dumps(order), str(writing)],
                    environment=self._settings.to_environment(),
                    log=self._settings.logs_directory / "inspector.log",
                    pass_fds=(writing,),
                )
            finally:
                os.close(writing)
            late = threading.Event()

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self._settings.inspection_seconds, end)
            timer.start()
            try:
                text = pipe.read()
                process.wait()
            finally:
                timer.cancel()
                forget_child(process)
        return None if late.is_set() else text


def _summary(stored: Stored, profile: Profile | None) -> dict[str, Any]:
    return {
        "id": stored.id,
        "name": stored.name,
        "bytes": stored.bytes,
        "created_at": stored.created_at,
        "format": profile.format if profile else None,
        "rows": profile.rows if profile else None,
        "columns": list(profile.names) if profile else None,
        "links": {"self": f"/datasets/{stored.id}"},
    }


def _dataset_of(directory: Path) -> str | None:
    """The upload that a version was built from; None for other data, and for a version whose card is gone."""
    try:
        card = orjson.loads((directory / "card.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return card.get("spec", {}).get("dataset", {}).get("id")
