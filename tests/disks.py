"""Disks that are small enough to be filled. Mounting them takes root; where that is refused, a test is skipped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Path]:
    """A file system in memory of so many bytes, at a folder that is made."""
    folder.mkdir(parents=True)
    _mount(folder, f"size={n_bytes}")
    try:
        yield folder
    finally:
        # Lazily: a process that is just ending may still hold a file.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(disk: Path, n_bytes: int) -> None:
    """Gives a small disk another size."""
    _mount(disk, f"size={n_bytes},remount")


def _mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
