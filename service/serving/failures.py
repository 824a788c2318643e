"""What could not be loaded, when it is tried again, and what requests for it are told meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from models.errors import VitrineError, in_full
from models.public import told
from service.errors import NoRoomForVersion, VersionUnavailable

logger = logging.getLogger("vitrine.pool")

Key = tuple[str, int]
"""A model and the number of one of its versions."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the pool waits for what.

    Attributes:
        swap_seconds: a new version with an ONNX export takes over after this long even if the compute process does
            not have it yet: then explanations wait, predictions do not.
        settle_seconds: whoever moved an alias waits this long for the swap.
        refresh_seconds: a request that names what is not known waits this long for the registry.
        longest_pause_seconds: between two attempts to load a version.
    """

    swap_seconds: float = 60
    settle_seconds: float = 30
    refresh_seconds: float = 5
    longest_pause_seconds: float = 60

    def retry_pause(self, failures: int) -> float:
        """Seconds before a version that could not be loaded is tried again: 1, 2, 4, ..."""
        return min(self.longest_pause_seconds, 2.0 ** (failures - 1))


@dataclass(frozen=True, slots=True)
class Failure:
    error: Exception
    count: int
    retry_at: float

    @property
    def reason(self) -> str:
        """Why, as clients may know it."""
        return str(self.error) if isinstance(self.error, VitrineError) else told(self.error)


class Failures:
    """The last failure of each version that could not be loaded, until it is or is gone."""

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        self._patience, self._clock = patience, clock
        self._held: dict[Key, Failure] = {}
        self.refusals: Counter[str] = Counter()
        """How many versions of a model could not be loaded; those that are tried again are not counted again."""

    def get(self, key: Key) -> Failure | None:
        return self._held.get(key)

    def pausing(self, key: Key) -> Failure | None:
        """The failure of a version that is not to be tried again yet."""
        failure = self._held.get(key)
        return failure if failure is not None and self._clock() < failure.retry_at else None

    def note(self, key: Key, error: Exception) -> Failure:
        error.__traceback__ = error.__context__ = None  # they would hold the half-made version
        count = self._held[key].count + 1 if key in self._held else 1
        self.refusals[key[0]] += count == 1
        # Room may come at any time: how often there was none says nothing about when.
        no_room = isinstance(error, NoRoomForVersion)
        pause = error.retry_after_seconds if isinstance(error, NoRoomForVersion) else self._patience.retry_pause(count)
        self._held[key] = failure = Failure(error, count, self._clock() + pause)
        logger.log(
            logging.DEBUG if no_room and count > 1 else logging.ERROR,
            "version %d of %s cannot be served: %s: %s; tried again in %.0f s",
            *reversed(key), type(error).__name__, in_full(error), pause,
        )  # fmt: skip
        return failure

    def refusal(self, key: Key, failure: Failure) -> Exception:
        """What a request for such a version is told."""
        if isinstance(failure.error, VitrineError):
            # One object, raised many times: its traceback would grow, and hold what it passed through.
            return failure.error.with_traceback(None)
        seconds = max(1.0, failure.retry_at - self._clock())
        return VersionUnavailable(f"{key[1]} of {key[0]!r}", failure.reason, seconds)

    def forget(self, key: Key) -> None:
        self._held.pop(key, None)

    def keep_only(self, keys: Collection[Key]) -> None:
        """Forgets those of versions that are no more."""
        for gone in self._held.keys() - keys:
            del self._held[gone]
