"""The mirror process: follows the registry and writes to MLflow, for as long as it runs and whatever MLflow does."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO, cast

from models.database import open_database
from models.mirror import Mirror, MirrorLog
from models.registry import Registry
from models.tracking import check_tracking, open_tracking, public_address, without_secrets
from service.settings import Settings

logger = logging.getLogger("vitrine.mirror")

POLL_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
VERIFY_EVERY_PASSES = 100


class MirrorInUse(Exception):
    """Another mirror runs on this home."""


def pause_after(failures: int) -> float:
    """Seconds until the next try, after so many passes in a row that failed."""
    return min(POLL_SECONDS * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS)


def run_mirror(settings: Settings, *, once: bool) -> int:
    """Runs until SIGTERM or SIGINT, or one pass; returns the exit status.

    Ended at any moment, it has lost nothing: the next start finds in MLflow what was written.

    Raises:
        TrackingNotUsable: when no MLflow is configured, the extra is not installed, or the URI is of no known kind.
        MirrorInUse: when another mirror runs on this home: two would write everything twice.
    """
    uri = check_tracking(settings.mlflow_tracking_uri)
    settings.prepare_home()
    with _alone(settings):
        _hide_secrets(uri)
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not through Python's own ways out, which would wait for a call to an MLflow that does not answer.
            signal.signal(number, lambda *_: os._exit(0))
        follower = Follower(settings, uri)
        if once:
            return 0 if follower.pass_once() and not follower.problems else 1
        while True:
            follower.pass_once()
            threading.Event().wait(pause_after(follower.failures))


class Follower:
    """Passes of a `Mirror`, with what is said about them: once when something begins, once when it ends."""

    def __init__(self, settings: Settings, uri: str) -> None:
        self._uri = uri
        self._artifacts = settings.home / "mlflow-artifacts"
        self._engine = open_database(settings.registry_url)
        self._mirror: Mirror | None = None
        self._passes = 0
        self.problems: dict[str, str] = {}
        self.failures = 0

    def pass_once(self) -> bool:
        """Whether a pass came to its end."""
        address = public_address(self._uri)
        verify = self._passes % VERIFY_EVERY_PASSES == 0 or self.failures > 0
        try:
            mirror = self._mirror = self._mirror or self._open()
            written = mirror.catch_up(verify=verify)
        except Exception as error:
            # Whatever MLflow or the registry fails with, the mirror is what waits: nothing else may notice.
            if self.failures == 0:
                text = "MLflow at %s (or the registry) is away; all else goes on, and it is caught up later. %s: %s"
                logger.warning(text, address, type(error).__name__, error)
            self.failures += 1
            return False
        if self.failures or self._passes == 0:
            logger.info("MLflow at %s is caught up: %d things written", address, written)
        self._passes, self.failures = self._passes + 1, 0
        for place, text in mirror.problems.items():
            if self.problems.get(place) != text:
                logger.error("%s cannot be mirrored: %s", place, text)
        self.problems = dict(mirror.problems)
        return True

    def _open(self) -> Mirror:
        log = MirrorLog(self._engine, public_address(self._uri))
        return Mirror(Registry(self._engine), log, open_tracking(self._uri, self._artifacts))


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    with (settings.run_directory / "mirror.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MirrorInUse(
                f"A mirror runs on {settings.home.resolve()} already. Two would write everything twice: stop the other."
            ) from None
        yield


def _hide_secrets(uri: str) -> None:
    """Nothing that this process writes holds the password of the tracking URI, whoever writes it.

    MLflow prints the whole address of each run it finishes; others put it into the messages of errors.
    """
    logging.captureWarnings(True)
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.stdout, sys.stderr = cast(TextIO, _Hiding(sys.stdout, uri)), cast(TextIO, _Hiding(sys.stderr, uri))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(_Hiding(handler.stream, uri))


@dataclass
class _Hiding:
    """A stream without the secrets of a tracking URI."""

    stream: Any
    uri: str

    def write(self, text: str) -> int:
        return self.stream.write(without_secrets(text, self.uri))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
