"""Files of formats that are not read are recognised, and refused with what to send instead."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
from pathlib import Path

import h5py
import numpy as np
import orjson
import pytest
from files import png, write, zip_of

from models.errors import UnreadableData
from models.sources.reading import profile_file

TABLE = b"a,y\n1,no\n2,yes\n"


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableData) as refused:
        profile_file(path)
    (fault,) = refused.value.faults
    assert fault.detail, "a refusal without a cure"
    return f"{fault.received}: {fault.detail}"


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 2)))
    return buffer.getvalue()


def hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["x"] = np.zeros(3)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(TABLE), "a file packed with gzip: unpack it first"),
        (bz2.compress(TABLE), "a file packed with bzip2: unpack it first"),
        (lzma.compress(TABLE), "a file packed with xz: unpack it first"),
        (array(), "a single array (NPY): save features and target together: numpy.savez(FILE, X=..., y=...)"),
        (hdf5(), "an HDF5 file: save its arrays with numpy.savez"),
        (png(np.zeros((2, 2))), "one image: pack many of them as a ZIP, in a folder for each label"),
        (pickle.dumps([1, 2]), "a pickle: pickles are never loaded, since they can run code"),
        (orjson.dumps([{"a": 1, "y": 2}]), "JSON: save its rows as CSV or Parquet"),
        (b'{\n  "a": [1]}', "JSON: save its rows as CSV or Parquet"),
        (b"%PDF-1.7\n", "a PDF document: save its table as CSV"),
        (b"PAR1 and no more", "a file that cannot be read as one"),
        (b"a,y\n", "a header alone: the first line names the columns, and each other one is a row"),
    ],
    # Of their own: a packed file says when it was packed, and processes of one run must name their tests alike.
    ids=[
        "gzip", "bzip2", "xz", "npy", "hdf5", "png", "pickle", "json", "indented json", "pdf", "half parquet", "header",
    ],
)  # fmt: skip
def test_file_of_another_format_is_refused_by_its_name_with_a_cure(tmp_path: Path, content: bytes, words: str) -> None:
    assert refusal(write(tmp_path / "data.csv", content)).startswith(words)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"data.csv": TABLE}, "a ZIP with 'data.csv': send a table as it is, not packed"),
        (
            {"[Content_Types].xml": b"", "xl/workbook.xml": b""},
            "a document of Excel or another office program: save the",
        ),
        ({}, "a ZIP without a file"),
    ],
)
def test_zip_of_something_else_is_refused(tmp_path: Path, entries: dict[str, bytes], words: str) -> None:
    assert refusal(zip_of(tmp_path / "f.zip", entries)).startswith(words)


def test_header_that_begins_with_a_bracket_is_no_json(tmp_path: Path) -> None:
    assert 2 == profile_file(write(tmp_path / "t.csv", "[a],{b}\n1,2\n3,4\n")).rows
