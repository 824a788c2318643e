"""What can be wrong on the online side, one class per fact. HTTP statuses are in `problems.py` alone."""

from __future__ import annotations

from collections.abc import Sequence

from models.errors import Fault, VitrineError


class NotReadable(VitrineError):
    """A body that is not what its content type says."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class WrongContentType(VitrineError):
    def __init__(self, received: str, accepted: Sequence[str]) -> None:
        super().__init__(
            f"The content type {received or '(none)'!r} cannot be read here. Send {' or '.join(accepted)}."
        )


class NotAcceptable(VitrineError):
    def __init__(self, accept: str, offered: Sequence[str]) -> None:
        super().__init__(f"Nothing here is {accept!r}. Offered: {', '.join(offered)}.")


class BodyTooLarge(VitrineError):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The body is larger than {limit_bytes:,} bytes. Send fewer rows, or raise VITRINE_BODY_LIMIT_BYTES."
        )


class UploadTooLarge(VitrineError):
    def __init__(self, limit_bytes: int, variable: str = "VITRINE_DATASET_LIMIT_BYTES") -> None:
        cure = "Send it as Parquet, send fewer rows, put it into the data folder of the server"
        if variable != "VITRINE_DATASET_LIMIT_BYTES":
            cure = "Send a smaller one"
        super().__init__(f"The file is larger than {limit_bytes:,} bytes. {cure}, or raise {variable}.")


class DiskTooSmall(VitrineError):
    """An upload for which the disk has no room."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"The disk has no room for this upload: it needs at least {needed_bytes / 1e6:.1f} MB, "
            f"{free_bytes / 1e6:.1f} MB are free. Remove data sets that nobody needs, or free space."
        )


class DatasetInUse(VitrineError):
    def __init__(self, dataset: str, users: Sequence[str]) -> None:
        more = f" and {len(users) - 5} more" if len(users) > 5 else ""
        super().__init__(
            f"Data set {dataset} is needed by {', '.join(users[:5])}{more}: explanations over its "
            "rows, and comparisons with the next version, read it again."
        )
        self.dataset, self.users = dataset, tuple(users)


class InspectionFailed(VitrineError):
    """A file that could not be looked through with what an inspection may take."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The file could not be inspected: the inspection {reason}. Send fewer rows or columns, or Parquet in "
            "place of CSV; or raise VITRINE_INSPECTION_SECONDS."
        )


class BodyTooSlow(VitrineError):
    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body has not arrived within {seconds:g} s. Send it faster, or in smaller requests.")


class OutOfTime(VitrineError):
    """The client's own limit has passed."""

    def __init__(self, timeout_ms: float) -> None:
        super().__init__(f"The answer was not ready within the {timeout_ms:g} ms that the request allowed.")


class UnknownMethod(VitrineError):
    """A call of gRPC to what is not here."""

    def __init__(self, path: str, offered: Sequence[str]) -> None:
        super().__init__(f"There is no method {path[:200]!r} here. Offered: {', '.join(offered)}.")


class UnknownService(VitrineError):
    """A question for the health of something that is no service here."""

    def __init__(self, name: str, offered: Sequence[str]) -> None:
        super().__init__(f"There is no service {name[:200]!r} here. Offered: {', '.join(offered)}.")


class InvalidRequest(VitrineError):
    """Values of a request (other than its rows) that cannot be used."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{f.pointer}: expected {f.expected}, received {f.received}" for f in faults[:3]))
        self.faults = tuple(faults)


class UnknownJob(VitrineError):
    def __init__(self, job: str, recent: Sequence[str]) -> None:
        super().__init__(f"There is no job {job!r}. Latest jobs: {', '.join(recent) if recent else 'none yet'}.")


class UnknownSchedule(VitrineError):
    def __init__(self, model: str, models: Sequence[str]) -> None:
        super().__init__(
            f"Model {model!r} has no schedule. Models with one: {', '.join(sorted(models)) if models else 'none yet'}. "
            f"PUT /models/{model}/schedule sets one."
        )


class JobStateConflict(VitrineError):
    """A job cannot be cancelled or resumed in the state it is in."""

    def __init__(self, job: str, action: str, status: str) -> None:
        cure = {
            "cancel": "Only a job that is queued or running can be cancelled.",
            "resume": "Only a job that has failed or was cancelled can be resumed.",
        }[action]
        super().__init__(f"Job {job} is {status}. {cure}")


class IdempotencyKeyReused(VitrineError):
    """A key that came with another body before."""

    def __init__(self, key: str, job: str) -> None:
        super().__init__(
            f"The Idempotency-Key {key!r} came with another body before, for job {job}. "
            "Send a new key with a new body, or the same body to get that job again."
        )


class UnknownExplanation(VitrineError):
    def __init__(self, explanation: str, kept_days: int) -> None:
        super().__init__(
            f"There is no explanation {explanation!r}. Explanations are kept for {kept_days} days "
            '(VITRINE_EXPLANATION_RETENTION_DAYS), those whose receipt says "recorded": true; make it again with '
            "POST /explain."
        )
        self.explanation = explanation


class UnknownPrediction(VitrineError):
    def __init__(self, prediction: str, taken: str, kept_days: int, max_records: int) -> None:
        super().__init__(
            f"There is no recorded prediction {prediction!r}. This server records {taken} predictions "
            f"(VITRINE_RECORD_PREDICTIONS), within a second of their answers; they are kept for {kept_days} days, the "
            f"latest {max_records:,} of them. With the inputs at hand, send them to POST /explain."
        )


class VersionGone(VitrineError):
    """The version that made a prediction is no more: no other would explain it."""

    def __init__(self, prediction: str, model: str, version: int) -> None:
        super().__init__(
            f"Prediction {prediction!r} was made by version {version} of {model!r}, which has been deleted: no other "
            f"version can say why it answered so. GET /predictions/{prediction} still has what it was."
        )


class ExplanationJobStateConflict(VitrineError):
    """An explanation that cannot be cancelled any more."""

    def __init__(self, explanation: str, status: str) -> None:
        super().__init__(
            f"Explanation {explanation!r} is {status}: nothing is left to cancel. Only one that is queued or running "
            "can be cancelled."
        )
        self.explanation = explanation


class ExplanationCancelled(VitrineError):
    def __init__(self, explanation: str) -> None:
        super().__init__(f"Explanation {explanation!r} was cancelled. Ask for it again to have it.")
        self.explanation = explanation


class TooManyExplanationJobs(VitrineError):
    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} explanations are waiting to be computed. Try again later, or cancel some of them with DELETE."
        )


class RecordsOff(VitrineError):
    """Something that needs records was asked of a server that keeps none."""

    def __init__(self) -> None:
        super().__init__(
            "An explanation that is fetched later has to be kept, and this server keeps none. Run it with "
            "VITRINE_RECORD_EXPLANATIONS=true."
        )


class InputsNotKept(VitrineError):
    """A record without the values that were predicted or explained."""

    def __init__(self, record: str, purpose: str) -> None:
        super().__init__(
            f"{record} cannot be {purpose}: its inputs were not kept. Records hold inputs when the "
            "server runs with VITRINE_RECORD_INPUTS=true; with the inputs at hand, send them to POST /explain."
        )


class InputsRedacted(VitrineError):
    """A record without the values of some features."""

    def __init__(self, record: str, purpose: str, redacted: Sequence[str]) -> None:
        super().__init__(
            f"{record} cannot be {purpose}: the values of {', '.join(redacted)} were redacted "
            "(VITRINE_REDACTED_FEATURES). With the inputs at hand, send them to POST /explain."
        )
        self.redacted = tuple(redacted)


class RecordsUnavailable(VitrineError):
    """The database that holds the records cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Records cannot be read now: {reason}. Try again shortly.")


class ComputeUnavailable(VitrineError):
    """The compute process died twice over one request, or cannot be started now."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ComputeBusy(VitrineError):
    def __init__(self, waiting: int) -> None:
        super().__init__(f"The compute process has {waiting} orders waiting. Try again soon, or send fewer at once.")


class TooManyRowsWaiting(VitrineError):
    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting:,} rows are waiting for this version. Try again soon, or send fewer at once.")


class ComputeFailed(VitrineError):
    """The compute process met an error that is not one of ours; its log has the details."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"The compute process could not do this: {kind}: {message[:500]}")


class VersionUnavailable(VitrineError):
    """A version that cannot be loaded now, for a reason that may pass: a disk that is away, too many open files."""

    def __init__(self, place: str, reason: str, retry_after_seconds: float) -> None:
        super().__init__(
            f"Version {place} cannot be loaded now: {reason}. It is tried again in {retry_after_seconds:.0f} s."
        )
        self.retry_after_seconds = retry_after_seconds


class VersionTooLarge(VitrineError):
    """A version that takes more memory than there is for all versions together."""

    def __init__(self, key: tuple[str, int], needed_bytes: int, budget_bytes: int) -> None:
        super().__init__(
            f"Version {key[1]} of {key[0]!r} takes {_mib(needed_bytes)} of memory when it is loaded; all versions "
            f"together may take {_mib(budget_bytes)}. Raise VITRINE_MODEL_MEMORY_BYTES to {needed_bytes} or more, "
            "where the machine has as much, or train a smaller network."
        )
        self.needed_bytes, self.budget_bytes = needed_bytes, budget_bytes


class NoRoomForVersion(VitrineError):
    """A version for which no other makes room now: they are pinned, or requests in flight hold them."""

    retry_after_seconds = 1.0

    def __init__(self, key: tuple[str, int], needed_bytes: int, budget_bytes: int, pinned_bytes: int) -> None:
        super().__init__(
            f"Version {key[1]} of {key[0]!r} needs {_mib(needed_bytes)} of memory, and there is no room for it "
            f"now: of {_mib(budget_bytes)} for all versions, those that stay loaded (VITRINE_PRELOAD, the repository's "
            f"load) take {_mib(pinned_bytes)}, and requests in flight may hold others. Try again soon, raise "
            "VITRINE_MODEL_MEMORY_BYTES, or let fewer versions stay."
        )


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"


class VersionHasAlias(VitrineError):
    """A version that is to be unloaded, and is served under a name."""

    def __init__(self, model: str, version: int, aliases: Sequence[str]) -> None:
        super().__init__(
            f"failed to unload {model!r}: version {version} is served as {', '.join(aliases)}. Move the alias first, "
            "or name another version in parameters.version."
        )


class VersionPreloaded(VitrineError):
    """A version that is to be unloaded, and that the settings keep loaded."""

    def __init__(self, model: str, version: int) -> None:
        super().__init__(
            f"failed to unload {model!r}: VITRINE_PRELOAD keeps version {version} loaded. Name another version in "
            "parameters.version."
        )


class RegistryUnavailable(VitrineError):
    """The database of the registry is away or locked."""

    def __init__(self) -> None:
        super().__init__(
            "The registry's database cannot be reached, or another process holds it locked. "
            "Loaded versions serve on; try again in a few seconds."
        )


class JobsUnavailable(VitrineError):
    """The job database cannot be reached."""
