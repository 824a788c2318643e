"""ZIP files from strangers: what may not be in them is refused before anything is unpacked."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from models.public import without_folders
from models.sources.source import refused

MAX_ENTRIES = 1_000_000


def checked_entries(path: Path, *, expanded_limit_bytes: int) -> list[zipfile.ZipInfo]:
    """The files in a ZIP, none of which can lead out of it or grow beyond the limit.

    Nothing is ever extracted to the disk; entries are read one by one, and never further than the size they state.

    Raises:
        UnreadableData: naming the entry with a path outside, the link, the encrypted entry, or the size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        received = f"a file that cannot be read as one ({without_folders(str(error))[:200]})"
        raise refused("a ZIP file", received, "was it cut off on the way? Pack it anew") from None
    if len(entries) > MAX_ENTRIES:
        raise refused(f"at most {MAX_ENTRIES:,} files in a ZIP", f"{len(entries):,}")
    for entry in entries:
        if _leads_outside(entry.filename):
            raise refused(
                "paths inside the ZIP", f"the entry {entry.filename[:100]!r}", "pack the folder from within, without .."
            )
        kind = entry.external_attr >> 16
        if stat.S_IFMT(kind) not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a symbolic link" if stat.S_ISLNK(kind) else "a special file"
            raise refused(
                "files and folders in a ZIP", f"{what}, {entry.filename[:100]!r}", "pack the files themselves"
            )
        if entry.flag_bits & 1:
            received = f"the encrypted entry {entry.filename[:100]!r}"
            raise refused("a ZIP without a password", received, "pack it anew without one")
    expanded = sum(entry.file_size for entry in entries)
    if expanded > expanded_limit_bytes:
        raise refused(
            f"at most {expanded_limit_bytes:,} bytes once it is unpacked",
            f"{expanded:,} bytes in a file of {path.stat().st_size:,}",
            "send less, or raise VITRINE_DATASET_EXPANDED_LIMIT_BYTES",
        )
    return [entry for entry in entries if not entry.is_dir()]


def _leads_outside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "\\" in name or (len(name) > 1 and name[1] == ":")
