"""Child processes that never outlive their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_LIFELINE = "VITRINE_LIFELINE_FD"


def start_child(
    module: str,
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str],
    log: Path | None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts `python -m module` with a lifeline: a pipe whose other end this process holds until it ends.

    The child calls `hold_lifeline()`; when this process dies, in whatever way, the pipe closes and the child ends.
    (The kernel's parent-death signal would not do: it fires when the *thread* that started the child ends.)

    Args:
        log: a file that the child's output is appended to; None shares this process's.
    """
    reading, writing = os.pipe()
    output = log.open("ab") if log else None
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **environment, _LIFELINE: str(reading)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(*pass_fds, reading),
            # A process group of its own, so that Ctrl-C reaches only the parent, which ends its children in order.
            process_group=0,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
        if output:
            output.close()
    _lifelines[process.pid] = writing
    return process


def end_child(process: subprocess.Popen[bytes], *, seconds: float) -> None:
    """Asks a child to end, and kills it when it has not after some seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    forget_child(process)


def forget_child(process: subprocess.Popen[bytes]) -> None:
    """Closes the lifeline of a child that has ended."""
    if (writing := _lifelines.pop(process.pid, None)) is not None:
        os.close(writing)


def hold_lifeline() -> None:
    """In a child: ends this process at once when its parent is gone. Does nothing in a process started by hand."""
    descriptor = os.environ.pop(_LIFELINE, None)
    if descriptor is None:
        return

    def wait_for_parent() -> None:
        os.read(int(descriptor), 1)
        os._exit(1)

    threading.Thread(target=wait_for_parent, name="lifeline", daemon=True).start()


_lifelines: dict[int, int] = {}
