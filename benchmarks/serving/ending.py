"""How a benchmark ends when it is told to: as by Ctrl-C, so that the servers that it started end with it."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_on_sigterm() -> None:
    """From now on SIGTERM raises `SystemExit` in the main thread."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
