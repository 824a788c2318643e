"""Files of formats that are not read: recognised by how they begin, so that a person is told what to do instead."""

from __future__ import annotations

from collections.abc import Sequence

from models.errors import UnreadableData
from models.sources.source import refused

READ = "CSV, Parquet, NPZ or a ZIP of images in class folders"
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a file packed with gzip", "unpack it first; Parquet is small as it is"),
    (b"BZh", "a file packed with bzip2", "unpack it first; Parquet is small as it is"),
    (b"\xfd7zXZ\x00", "a file packed with xz", "unpack it first; Parquet is small as it is"),
    (b"\x28\xb5\x2f\xfd", "a file packed with zstd", "unpack it first; Parquet is small as it is"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "pack images in class folders as a ZIP"),
    (b"Rar!", "a RAR archive", "pack images in class folders as a ZIP"),
    (b"\x93NUMPY", "a single array (NPY)", "save features and target together: numpy.savez(FILE, X=..., y=...)"),
    (b"%PDF", "a PDF document", "save its table as CSV"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet of old Excel", "save the sheet as CSV in UTF-8"),
    (b"SQLite format 3\x00", "an SQLite database", "write the rows of a query as CSV or Parquet"),
    (b"\x89HDF", "an HDF5 file", "save its arrays with numpy.savez, or its table as Parquet"),
    (b"ARROW1", "a Feather file", "save it as Parquet"),
    (b"ORC", "an ORC file", "save it as Parquet"),
    (b"\x89PNG", "one image", "pack many of them as a ZIP, in a folder for each label"),
    (b"\xff\xd8\xff", "one image", "pack many of them as a ZIP, in a folder for each label"),
    (b"GIF8", "one image", "pack many of them as a ZIP, in a folder for each label"),
    (b"\x80\x04\x95", "a pickle", "pickles are never loaded, since they can run code: save it as Parquet or CSV"),
    (b"\x80\x05\x95", "a pickle", "pickles are never loaded, since they can run code: save it as Parquet or CSV"),
)
_JSON = (b'{"', b"[{", b"[[", b'["')
HEAD_BYTES = 16


def refuse_other_formats(head: bytes) -> None:
    """Refuses a file that begins as one of another format does.

    Raises:
        UnreadableData: saying what it is, and what to send in its place.
    """
    for beginning, what, cure in _BEGINNINGS:
        if head.startswith(beginning):
            raise refused(READ, what, cure)
    if b"".join(head.split()).startswith(_JSON):
        raise refused(READ, "JSON", "save its rows as CSV or Parquet")


def other_archive(names: Sequence[str]) -> UnreadableData:
    """The refusal of a ZIP that holds no image."""
    if "[Content_Types].xml" in names:
        return refused(READ, "a document of Excel or another office program", "save the sheet as CSV in UTF-8")
    if names:
        cure = "send a table as it is, not packed; images lie in a folder for each label, as cats/1.png"
        return refused("a ZIP of images in class folders, or an NPZ file", f"a ZIP with {names[0][:100]!r}", cure)
    cure = "images lie in a folder for each label, as cats/1.png"
    return refused("a ZIP of images in class folders, or an NPZ file", "a ZIP without a file", cure)
