"""Uploads are kept under their content, whole or not at all."""

import os
from pathlib import Path

import pytest

from models.errors import UnknownDataset
from models.sources.folder import CONTENT, DataFolder, Stored

ID = "ab" * 32


def keep(folder: DataFolder, name: str, id_: str = ID) -> bool:
    aside = folder.new_upload()
    (aside / CONTENT).write_bytes(b"a,y\n1,2\n")
    return folder.keep(aside, Stored(id_, name, 8, "2026-11-21T09:30:00.000Z"))


def test_first_name_of_a_content_stays(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)

    kept = [keep(folder, "first.csv"), keep(folder, "second.csv")]

    assert [True, False] == kept
    assert ["first.csv"] == [one.name for one in folder.stored()]
    assert [ID] == [path.name for path in folder.uploads.iterdir()]


def test_removed_upload_is_gone_and_can_come_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    keep(folder, "first.csv")

    folder.remove(ID)

    assert [] == folder.stored() == list(folder.uploads.iterdir())
    with pytest.raises(UnknownDataset):
        folder.find(ID)
    assert keep(folder, "again.csv")


@pytest.mark.parametrize("id_", ["", "..", "../uploads", ID[:-1], ID + "/..", ID.upper()])
def test_what_is_no_id_is_unknown(tmp_path: Path, id_: str) -> None:
    folder = DataFolder(tmp_path)
    keep(folder, "first.csv")

    with pytest.raises(UnknownDataset):
        folder.find(id_)


def test_only_old_leftovers_are_swept(tmp_path: Path) -> None:
    """Another process may be receiving a file just now."""
    folder = DataFolder(tmp_path)
    old, new = folder.new_upload(), folder.new_upload()
    (old / CONTENT).write_bytes(b"a,")
    for path in (old / CONTENT, old):
        os.utime(path, (1000, 1000))
    keep(folder, "whole.csv")

    folder.sweep(before=2000)

    assert {ID, new.name} == {path.name for path in folder.uploads.iterdir()}
