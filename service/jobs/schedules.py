"""Retraining by the clock: one cron schedule for each model, kept by DBOS, all times in UTC.

A run is a workflow of DBOS under a name made of schedule and time, so that however many workers there are, it is there
once; the job that it submits is found again by the same two. What is missed while no worker is up is made up for once,
by the latest run that was missed. A run whose predecessor's job has not finished is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from croniter import croniter
from croniter.croniter import CroniterBadDateError

from models.asking import made_whole
from models.database import in_rfc_3339
from models.errors import CorruptVersion, Fault, InvalidSpec, UnknownDataset, UnreadableData
from models.registry import Registry
from models.retraining import resolve_from
from models.rows import describe
from models.sources.folder import DataFolder
from models.spec import TrainingSpec, read_spec
from models.spec.data import DatasetSpec
from service.errors import InvalidRequest, UnknownSchedule
from service.jobs.queue import FINISHED, JobQueue, translated_errors

WORKFLOW = "scheduled-training"
_PREFIX = "retrain-"


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """What came of a run: the job that it submitted, or why it submitted none."""

    job: str | None
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"job": self.job, "detail": self.detail}


class Schedules:
    """The schedules of all models. Used by the API to change them, and by workers to run them."""

    def __init__(self, jobs: JobQueue, registry: Registry, folder: DataFolder) -> None:
        self._jobs, self._registry, self._folder = jobs, registry, folder

    def put(self, model: str, cron: str, spec: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Sets the schedule of a model; one that is paused stays paused.

        Raises:
            InvalidRequest: when the cron expression means no times.
            InvalidSpec: when the specification could not be run now.
        """
        check_cron(cron, now)
        self._resolved(model, spec)
        with translated_errors():
            self._apply(model, cron, {"model": model, "spec": dict(spec), "since": in_rfc_3339(now)})
        return self.get(model, now)

    def get(self, model: str, now: datetime) -> dict[str, Any]:
        """The document of a schedule. Raises `UnknownSchedule`."""
        return self._document(self._held(model), now)

    def list(self, now: datetime) -> list[dict[str, Any]]:
        with translated_errors():
            held = self._jobs.open().list_schedules(schedule_name_prefix=_PREFIX)
        return sorted((self._document(schedule, now) for schedule in held), key=lambda document: document["model"])

    def remove(self, model: str) -> None:
        """Raises `UnknownSchedule`."""
        self._held(model)
        with translated_errors():
            self._jobs.open().delete_schedule(_PREFIX + model)

    def pause(self, model: str, now: datetime) -> dict[str, Any]:
        """No run begins any more; a job that one has submitted goes on. Raises `UnknownSchedule`."""
        self._held(model)
        with translated_errors():
            self._jobs.open().pause_schedule(_PREFIX + model)
        return self.get(model, now)

    def resume(self, model: str, now: datetime) -> dict[str, Any]:
        """Runs that fell into the pause are not made up for. Raises `UnknownSchedule`."""
        held = self._held(model)
        if held["status"] == "PAUSED":
            with translated_errors():
                self._apply(model, held["schedule"], {**held["context"], "since": in_rfc_3339(now)})
                self._jobs.open().resume_schedule(_PREFIX + model)
        return self.get(model, now)

    def dataset_of(self, model: str, spec: Mapping[str, Any]) -> DatasetSpec:
        """The data that a schedule's specification names now. Raises `InvalidSpec` for one that is not well-formed."""
        return self._asked(model, spec).dataset

    def needed_datasets(self) -> set[tuple[str, str]]:
        """Models and the ids of the uploads that their schedules name themselves."""
        with translated_errors():
            held = self._jobs.open().list_schedules(schedule_name_prefix=_PREFIX)
        named = [(one["context"]["model"], (one["context"]["spec"].get("dataset") or {}).get("id")) for one in held]
        return {(model, id_) for model, id_ in named if id_ is not None}

    def needed_versions(self) -> set[tuple[str, int]]:
        """Models and versions whose specification a schedule takes by number."""
        with translated_errors():
            held = self._jobs.open().list_schedules(schedule_name_prefix=_PREFIX)
        specs = [(schedule["context"]["model"], schedule["context"]["spec"].get("from")) for schedule in held]
        return {(model, int(version)) for model, version in specs if str(version).isdecimal()}

    # -- in a worker -------------------------------------------------------------------------------------------------

    def catch_up(self, now: datetime) -> list[str]:
        """Queues the latest run that each schedule has missed, and returns the models. Two workers may at once."""
        missed = []
        for schedule in self._jobs.open().list_schedules(schedule_name_prefix=_PREFIX, status="ACTIVE"):
            since = max(_moment(schedule["context"]["since"]), _moment(schedule["last_fired_at"]))
            latest = croniter(schedule["schedule"], now).get_prev(datetime)
            if latest > since:
                second = timedelta(seconds=1)
                self._jobs.open().backfill_schedule(schedule["schedule_name"], latest - second, latest + second)
                missed.append(schedule["context"]["model"])
        return missed

    def run(self, at: str, context: Mapping[str, Any]) -> ScheduledRun:
        """Submits the job of a run, once however often it is called."""
        model = context["model"]
        key = _key(model, at)
        latest = self._jobs.latest_by_key(_key(model, ""))
        if latest is not None and latest.key != key:
            status = self._jobs.job(latest.job)["status"]
            if status not in FINISHED:
                return ScheduledRun(None, f"Skipped: job {latest.job} of the run before is {status}.")
        try:
            spec = self._resolved(model, context["spec"])
        except (InvalidSpec, CorruptVersion, UnknownDataset, UnreadableData) as error:
            details = " ".join(fault.detail for fault in getattr(error, "faults", ()) if fault.detail)
            return ScheduledRun(None, f"No job: {error}. {details}".strip())
        return ScheduledRun(self._jobs.submit(spec, dict(context), idempotency_key=key)["job"], "Submitted.")

    # -- within ------------------------------------------------------------------------------------------------------

    def _resolved(self, model: str, spec: Mapping[str, Any]) -> Any:
        return made_whole(self._asked(model, spec), self._folder, self._registry)

    def _asked(self, model: str, spec: Mapping[str, Any]) -> TrainingSpec:
        return read_spec(resolve_from({**spec, "model": model}, self._registry))

    def _apply(self, model: str, cron: str, context: dict[str, Any]) -> None:
        self._jobs.open().apply_schedules(
            [
                {
                    "schedule_name": _PREFIX + model,
                    "workflow_name": WORKFLOW,
                    "schedule": cron,
                    "context": context,
                }
            ]
        )

    def _held(self, model: str) -> Any:
        with translated_errors():
            held = self._jobs.open().get_schedule(_PREFIX + model)
            if held is None:
                others = self._jobs.open().list_schedules(schedule_name_prefix=_PREFIX)
                raise UnknownSchedule(model, [schedule["context"]["model"] for schedule in others])
        return held

    def _document(self, held: Any, now: datetime) -> dict[str, Any]:
        model, active = held["context"]["model"], held["status"] == "ACTIVE"
        coming = in_rfc_3339(croniter(held["schedule"], now).get_next(datetime)) if active else None
        return {
            "model": model,
            "cron": held["schedule"],
            "timezone": "UTC",
            "status": "active" if active else "paused",
            "spec": held["context"]["spec"],
            "next_run_at": coming,
            "last_run": self._last_run(held["schedule_name"]),
            "links": {"self": f"/models/{model}/schedule", "model": f"/models/{model}"},
        }

    def _last_run(self, name: str) -> dict[str, Any] | None:
        with translated_errors():
            runs = self._jobs.open().list_workflows(schedule_name=name, limit=1, sort_desc=True)
        if not runs:
            return None
        at = runs[0].workflow_id.removeprefix(f"sched-{name}-")
        outcome = runs[0].output if runs[0].status == "SUCCESS" else None
        return {"at": in_rfc_3339(_moment(at)), **(outcome or {"job": None, "detail": "Not submitted yet."})}


def check_cron(cron: str, now: datetime) -> None:
    """Raises `InvalidRequest` with the cure where an expression is none, or means a day that never comes."""
    cure = "for example '0 3 * * 1': Mondays at 03:00"
    expected = "five fields in UTC: minute, hour, day of the month, month, day of the week"
    if len(cron.split()) != 5 or not croniter.is_valid(cron):
        raise InvalidRequest([Fault("#/cron", expected, describe(cron), cure)])
    try:
        croniter(cron, now).get_next(datetime)
    except CroniterBadDateError:
        raise InvalidRequest(
            [Fault("#/cron", "times that come", f"{describe(cron)}, which never does", cure)]
        ) from None


def _key(model: str, at: str) -> str:
    """The idempotency key of a run's job. No client can send it: a header has no line breaks."""
    return f"schedule\n{model}\n{at}"


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.min.replace(tzinfo=UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
