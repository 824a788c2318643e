"""The end of a log file, without reading all of it."""

from __future__ import annotations

from pathlib import Path

LIMIT_BYTES = 4 * 2**20
"""The most that is given of a log: its end."""


def last_lines(path: Path, lines: int | None = None) -> str:
    """The last lines of a file (None: as many as fit in the limit); nothing when there is no such file yet."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - LIMIT_BYTES)
            file.seek(start)
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    held = text.splitlines(keepends=True)
    if start:
        del held[0]  # the first line is cut
    return "".join(held if lines is None else held[-lines:])
