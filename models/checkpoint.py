"""All that the next epoch depends on, on disk: whole, its own, and one of the last two; or there is none.

A checkpoint is one file, `epoch-000012.<SHA-256 of its bytes>.npz`, written aside, made durable and renamed. It holds
numbers and JSON, no pickle. What does not match its name, or was written for another specification, other data or
other libraries, is ignored with a logged reason: the older one is taken, or fitting starts anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

logger = logging.getLogger("vitrine.trainer")

KEPT = 2
_ASIDE = ".writing"
_NAME = re.compile(r"epoch-(\d+)\.([0-9a-f]{64})\.npz")
_STATE = "state"

Identity = Mapping[str, str]
"""What a checkpoint belongs to: a digest for each thing that it depends on (specification, data, libraries, ...)."""


class CheckpointNotWritten(Exception):
    """The disk did not take a checkpoint. Training can go on without it."""


class _Unusable(Exception):
    """A file that cannot be resumed from; the message says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `epoch` epochs.

    `variables` are those of the network in its order: weights, and the state of every seed generator, from which
    dropout is drawn. Best loss, patience used up and learning rate follow from `history` and are not stored beside
    it, so that they cannot disagree with it. `statistics` are those of the layers, `timing` is what progress is told
    from.
    """

    epoch: int
    variables: Sequence[NDArray[Any]]
    optimizer_variables: Sequence[NDArray[Any]]
    best_weights: Sequence[NDArray[Any]]
    history: dict[str, list[float]]
    timing: dict[str, Any]
    statistics: list[dict[str, Any]]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one job in a folder of its own.

    `fence` is called before a checkpoint is put in place, and raises when this attempt has been overtaken by another.
    """

    directory: Path
    identity: Identity
    fence: Callable[[], None] = lambda: None

    def save(self, checkpoint: Checkpoint) -> None:
        """Puts a checkpoint in place and removes all but the last two. Nothing half written is left.

        Raises:
            CheckpointNotWritten: when the disk is full, say; earlier checkpoints stay.
            Whatever `fence` raises.
        """
        with _faults_of_the_disk():
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".", suffix=_ASIDE, dir=self.directory)
        aside = Path(name)
        try:
            with _faults_of_the_disk(), os.fdopen(descriptor, "w+b") as file:
                np.savez(file, allow_pickle=False, **self._arrays(checkpoint))
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.fence()
            with _faults_of_the_disk():
                saved = aside.rename(self.directory / f"epoch-{checkpoint.epoch:06}.{digest}.npz")
                _make_durable(self.directory)
                self._remove_older_than(saved, checkpoint.epoch)
        finally:
            _remove(aside)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that can be resumed from. What a killed attempt left half written is removed."""
        for leftover in self.directory.glob(f".*{_ASIDE}"):
            _remove(leftover)
        for _, path in reversed(self._found()):
            try:
                return self._read(path)
            except _Unusable as reason:
                logger.warning("checkpoint %s is ignored: %s", path.name, reason)
        return None

    def _arrays(self, checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
        state = {
            "identity": dict(self.identity),
            "epoch": checkpoint.epoch,
            "history": checkpoint.history,
            "timing": checkpoint.timing,
            "statistics": checkpoint.statistics,
        }
        arrays: dict[str, NDArray[Any]] = {_STATE: np.frombuffer(orjson.dumps(state), dtype=np.uint8)}
        for name in ("variables", "optimizer_variables", "best_weights"):
            arrays |= {f"{name}/{i}": value for i, value in enumerate(getattr(checkpoint, name))}
        return arrays

    def _read(self, path: Path) -> Checkpoint:
        found = _NAME.fullmatch(path.name)
        assert found is not None
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != found[2]:
                    raise _Unusable("its bytes are not those that were written (truncated or changed)")
                file.seek(0)
                with np.load(file, allow_pickle=False) as arrays:
                    state = orjson.loads(arrays[_STATE].tobytes())
                    self._check_identity(state["identity"])
                    return Checkpoint(
                        epoch=state["epoch"],
                        variables=_numbered(arrays, "variables"),
                        optimizer_variables=_numbered(arrays, "optimizer_variables"),
                        best_weights=_numbered(arrays, "best_weights"),
                        history=state["history"],
                        timing=state["timing"],
                        statistics=state["statistics"],
                    )
        except OSError as error:
            raise _Unusable(f"it cannot be read: {error}") from error
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise _Unusable(f"it is no checkpoint: {type(error).__name__}: {error}") from error

    def _check_identity(self, identity: Identity) -> None:
        names = {**self.identity, **identity}
        if other := [name for name in names if identity.get(name) != self.identity.get(name)]:
            raise _Unusable(f"it was written for another {' and another '.join(other)}")

    def _found(self) -> list[tuple[int, Path]]:
        """Epoch and file of every checkpoint, ascending."""
        if not self.directory.is_dir():
            return []
        named = ((_NAME.fullmatch(path.name), path) for path in self.directory.iterdir())
        return sorted((int(name[1]), path) for name, path in named if name)

    def _remove_older_than(self, saved: Path, epoch: int) -> None:
        """Keeps the saved one and the latest before it. Later ones are unusable, and replaced as fitting goes on."""
        others = [(at, path) for at, path in self._found() if at <= epoch and path != saved]
        earlier = [path for at, path in others if at < epoch]
        kept = earlier[len(earlier) - (KEPT - 1) :]
        for _, path in others:
            if path not in kept:
                _remove(path)


def digest_of(facts: Any) -> str:
    """The SHA-256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def discard_checkpoints(directory: Path) -> None:
    """Removes the folder of a job's checkpoints, when its version is in place."""
    shutil.rmtree(directory, onerror=_log_what_stays)


def _log_what_stays(_function: Any, path: str, fault: Any) -> None:
    if not isinstance(fault[1], FileNotFoundError):
        logger.warning("%s could not be removed: %s", path, fault[1])


def _remove(path: Path) -> None:
    """A file that stays costs room, not the fit."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s could not be removed: %s", path, error)


def _numbered(arrays: Mapping[str, NDArray[Any]], name: str) -> tuple[NDArray[Any], ...]:
    count = sum(key.startswith(f"{name}/") for key in arrays)
    return tuple(arrays[f"{name}/{i}"] for i in range(count))


@contextmanager
def _faults_of_the_disk() -> Iterator[None]:
    """What the file system raises as `CheckpointNotWritten`; a fence may raise an `OSError` of its own."""
    try:
        yield
    except OSError as error:
        raise CheckpointNotWritten(error.strerror or str(error)) from error


def _make_durable(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
