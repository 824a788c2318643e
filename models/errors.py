"""What can be wrong in the models room, one class per fact.

VitrineError
|- InvalidRows          rows that do not fit the signature
|- InvalidSpec          a training specification that cannot be run
|- InvalidDataset       a data set and a specification that do not fit each other
|- UnreadableData       a file that holds no data set
|- DatasetChanged       a data set that is no longer what a version was built from
|- WarmStartImpossible  a network that cannot begin with the weights of an earlier version
|- LossNotFinite        a fit whose loss has become infinite or not a number
|- UnknownDataset       an id under which nothing was uploaded
|- SearchWithoutResult  a search none of whose trials came to its end
|- UnknownModel         a model name that the registry does not hold
|- UnknownVersion       a version or alias that the model does not have
|- NoSurrogate          a version without a surrogate tree
|- GatesFailed          an alias may not move to a version whose gates failed
|- ComparisonOutdated   an alias may not move on a comparison with a version that is champion no more
|- NothingToRollBackTo  an alias that has never pointed elsewhere
|- CorruptVersion       a version whose files are missing, changed or unsafe
|- Overtaken            an attempt of a job that a later one has overtaken
|- TrackingNotUsable    an MLflow mirror that cannot be started
|- DiskFull             a version for which the disk has no room
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class VitrineError(Exception):
    """A fact that a user can act on. `str()` of it is a full sentence."""


def in_full(error: BaseException) -> str:
    """What an error says with its notes, which say where on this machine: for logs."""
    return " ".join([str(error), *getattr(error, "__notes__", ())])


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong value: where it is (JSON pointer), what was expected there, what was received."""

    pointer: str
    expected: str
    received: str
    detail: str = ""


MOST_NAME_CHARACTERS = 200


def shown(name: str) -> str:
    """A name that was sent, cut where it is longer than any of ours: it may be as long as a request."""
    return name if len(name) <= MOST_NAME_CHARACTERS else f"{name[:MOST_NAME_CHARACTERS]}..."


def pointer(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) of a place in a request, with a leading `#`."""
    return "#" + "".join("/" + shown(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)


MAX_SHOWN_AXES = 8


def describe(value: Any) -> str:
    """A received value in few words, safe to send back: its JSON type, and the value itself when short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"[:60]
    if isinstance(value, str):
        return f"the string {value[:40]!r}" + ("..." if len(value) > 40 else "")
    if isinstance(value, Mapping):
        return f"an object with {len(value)} keys"
    if not isinstance(value, list):
        return f"a {type(value).__name__}"
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    sizes = " x ".join(map(str, shape[:MAX_SHOWN_AXES])) + (" x ..." if len(shape) > MAX_SHOWN_AXES else "")
    return f"a list of {sizes} values"


class _Faulty(VitrineError):
    def __init__(self, message: str, faults: Sequence[Fault]) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class InvalidRows(_Faulty):
    def __init__(self, faults: Sequence[Fault]) -> None:
        count = len(faults)
        super().__init__(f"{count} value{'s' if count != 1 else ''} in the inputs cannot be used.", faults)


class InvalidSpec(_Faulty):
    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("The training specification cannot be run: " + "; ".join(_words(f) for f in faults), faults)


class InvalidDataset(VitrineError):
    pass


class DatasetChanged(VitrineError):
    """The data set that a version was built from has other rows now."""

    def __init__(self, expected_sha256: str, found_sha256: str) -> None:
        super().__init__(
            f"The data set is no longer what this version was built from: expected SHA-256 {expected_sha256[:12]}..., "
            f"found {found_sha256[:12]}... Send rows as inputs, or take the background, which the version holds."
        )


class NoDataset(VitrineError):
    def __init__(self) -> None:
        super().__init__(
            "This version was imported with a signature and rows of its own, and not with a data set: there is no "
            'part to take rows from. Send rows as inputs, or take "dataset": "background", which the version holds.'
        )


class WarmStartImpossible(VitrineError):
    def __init__(self, version: int, place: int, layer: str, expected: str, received: str) -> None:
        super().__init__(
            f"The fit cannot begin with the weights of version {version}: layer {place} ({layer!r}) differs. Expected "
            f"{expected}, received {received}. Leave architecture and features as they were, or set warm_start to "
            "false."
        )
        self.place, self.layer = place, layer


class LossNotFinite(VitrineError):
    def __init__(self, loss: float, epoch: int, place: str, learning_rate: float) -> None:
        super().__init__(
            f"The loss is {loss} at {place} in epoch {epoch}: expected a finite number. Lower training.learning_rate "
            f"(it is {learning_rate:g}), or look for extreme values in the data."
        )
        self.epoch, self.place = epoch, place


class NotEnoughMemory(VitrineError):
    def __init__(self, needed_bytes: int, available_bytes: int, parameters: int, batch_size: int) -> None:
        super().__init__(
            f"The network needs about {_gigabytes(needed_bytes)} to be fitted ({parameters:,} parameters, batches of "
            f"{batch_size}), and {_gigabytes(available_bytes)} are free. Expected a network that fits: lower "
            "architecture.layers, training.batch_size, or the size of images."
        )
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes


class NoGpu(VitrineError):
    def __init__(self) -> None:
        super().__init__(
            "training.mixed_precision needs a GPU, and this worker has none: on a CPU float16 is slower, and less "
            "exact. Expected a worker with a GPU; or set training.mixed_precision to false."
        )


class UnsafeModelFile(VitrineError):
    """A file that is refused before Keras sees it, or that Keras refuses to load."""

    def __init__(self, fault: str, cure: str) -> None:
        super().__init__(f"The file cannot be imported: {fault}. {cure}")
        self.fault, self.cure = fault, cure


class ModelDoesNotFit(VitrineError):
    """A model that loads, but does not take or give what its signature says."""

    def __init__(self, expected: str, received: str, cure: str) -> None:
        super().__init__(f"The model does not fit its signature: expected {expected}, received {received}. {cure}")
        self.expected, self.received, self.cure = expected, received, cure


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _words(fault: Fault) -> str:
    return f"{fault.pointer}: {_cured(fault)}"


class SearchWithoutResult(VitrineError):
    def __init__(self, reasons: Sequence[str]) -> None:
        told = "; ".join(dict.fromkeys(reasons)) or "none has begun before search.minutes were over"
        super().__init__(
            f"None of the {len(reasons)} trials came to its end: {told}. Widen search.space, or give more minutes."
        )


class UnknownModel(VitrineError):
    def __init__(self, model: str, names: Sequence[str]) -> None:
        super().__init__(f"There is no model {shown(model)!r}. Models: {', '.join(names) if names else 'none yet'}.")
        self.model, self.names = model, tuple(names)


class UnknownVersion(VitrineError):
    def __init__(self, model: str, version: str, versions: Sequence[int], aliases: Sequence[str]) -> None:
        held = [str(v) for v in versions] + list(aliases)
        super().__init__(
            f"Model {model!r} has no version or alias {shown(version)!r}. It has: "
            f"{', '.join(held) if held else 'none yet'}."
        )
        self.model, self.version, self.names = model, version, tuple(held)


class NoSurrogate(VitrineError):
    def __init__(self, model: str, version: int, reason: str) -> None:
        super().__init__(f"Version {version} of {model!r} has no surrogate tree: {reason}.")


class GatesFailed(VitrineError):
    def __init__(self, model: str, version: int, gates: Sequence[str]) -> None:
        super().__init__(
            f"Version {version} of {model!r} failed these gates: {', '.join(gates)}. "
            'Send {"force": true, "reason": "..."} to move the alias all the same.'
        )


class ComparisonOutdated(VitrineError):
    """The champion has changed since a version was compared with it."""

    def __init__(self, model: str, version: int, champion: int | None) -> None:
        super().__init__(
            f"Version {version} of {model!r} was not compared with the present champion "
            f"({'none' if champion is None else f'version {champion}'}). "
            f'Train it again with {{"model": {model!r}, "from": {version}}}, go back with a rollback, or send '
            '{"force": true, "reason": "..."} to move the alias all the same.'
        )


class NothingToRollBackTo(VitrineError):
    def __init__(self, model: str, alias: str) -> None:
        super().__init__(f"Alias {alias!r} of {model!r} has no earlier version to go back to.")


class CorruptVersion(VitrineError):
    """Where its folder is on this machine's disk is a note of the error: tracebacks have it, clients are not told."""

    def __init__(self, directory: str, file: str, fault: str, version: str = "The version") -> None:
        super().__init__(f"{version} cannot be loaded: {file} {fault}.")
        self.file = file
        self.add_note(f"Its folder is {directory}.")


class Overtaken(VitrineError):
    def __init__(self, job: str, attempt: int, current: int) -> None:
        super().__init__(f"Attempt {attempt} of job {job} has been overtaken by attempt {current}, which goes on.")
        self.job, self.attempt = job, attempt


class TrackingNotUsable(VitrineError):
    pass


class DiskFull(VitrineError):
    """Where is a note of the error, as that of `CorruptVersion`."""

    def __init__(self, directory: str, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"The disk is full: the version needs about {needed_bytes / 1e6:.1f} MB, {free_bytes / 1e6:.1f} MB are "
            "free where versions are kept. Free space there and resume the job: it goes on from its last checkpoint."
        )
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes
        self.add_note(f"Its folder is {directory}.")


class UnreadableData(_Faulty):
    """A file that is no data set: where in it, what was expected, what was found, and what to do."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("The data cannot be read: " + "; ".join(_cured(fault) for fault in faults[:3]), faults)


class UnknownDataset(VitrineError):
    def __init__(self, dataset: str, ids: Sequence[str]) -> None:
        super().__init__(f"There is no data set {dataset!r}. Uploaded: {', '.join(ids[:10]) if ids else 'none yet'}.")
        self.dataset, self.names = dataset, tuple(ids)


def _cured(fault: Fault) -> str:
    return f"expected {fault.expected}, received {fault.received}" + (f" ({fault.detail})" if fault.detail else "")


class NotDifferentiableHere(VitrineError):
    """The graph of a network cannot be differentiated by our rules; its Keras model perhaps can."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The network's ONNX graph cannot be differentiated: {reason}.")
        self.reason = reason
