"""A folder of images that lies in the data folder: its files, none of which leads out of it, and what tells that it
has changed. No library that reads images is loaded by this."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.sources.source import refused

MAX_FILES = 1_000_000
DEPTH = 3
"""A folder around all labels, a folder for each label, its images."""
_IGNORED = ("__MACOSX", "Thumbs.db")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file by its path below the folder, with what changes when it does, short of reading it."""

    name: str
    bytes: int
    changed_at_ns: int
    number: int


def is_ignored(name: str) -> bool:
    """Whether a file is what systems leave among images: hidden files, thumbnails, a second fork of each file."""
    return any(part.startswith(".") or part in _IGNORED for part in PurePosixPath(name).parts)


def files_in(folder: Path) -> list[FoundFile]:
    """Every file below a folder, in the order of their names.

    Raises:
        UnreadableData: naming the link, the special file, or the folder that is too deep or cannot be read; or where
            there are too many.
    """
    found: list[FoundFile] = []
    for file in _walk(folder, PurePosixPath()):
        found.append(file)
        if len(found) > MAX_FILES:
            raise refused(f"at most {MAX_FILES:,} files in a folder", "more", "name one of the folders in it")
    return sorted(found, key=lambda file: file.name)


def _walk(folder: Path, below: PurePosixPath) -> Iterator[FoundFile]:
    try:
        with os.scandir(folder / below) as entries:
            held = [(below / entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        raise refused("a folder that the server may read", f"{str(below)!r} ({error.strerror})") from None
    for place, status in held:
        name = str(place)
        if is_ignored(name):
            continue
        if stat.S_ISREG(status.st_mode):
            yield FoundFile(name, status.st_size, status.st_mtime_ns, status.st_ino)
        elif not stat.S_ISDIR(status.st_mode):
            what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a special file"
            raise refused("files and folders", f"{what}, {name[:100]!r}", "put the files themselves there")
        elif len(place.parts) >= DEPTH:
            raise refused("a folder for each label with its images in it", f"the folder {name[:100]!r} deep in others")
        else:
            yield from _walk(folder, place)


def state_of(files: list[FoundFile]) -> str:
    """What changes when any of the files does, short of reading them."""
    lines = (f"{file.name}\0{file.bytes}\0{file.changed_at_ns}\0{file.number}\n" for file in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_file(path: Path) -> bytes:
    """The content of a file that is no link, whatever has become of it since it was listed."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read()


def content_digest(folder: Path, names: list[str]) -> str:
    """The SHA-256 of a folder's content: of the name and the SHA-256 of each file, in their order."""
    whole = hashlib.sha256()
    for name in names:
        content = hashlib.sha256(read_file(folder / name)).digest()
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + content)
    return whole.hexdigest()
