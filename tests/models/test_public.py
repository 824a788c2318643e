"""What is told of errors that are not ours names no folder of this machine."""

from __future__ import annotations

import errno

import pytest

from models.public import told, without_folders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Load model from /srv/v/JOB-1/model.onnx failed:Load", "Load model from model.onnx failed:Load"),
        ("File not found: filepath=/srv/v/model.keras. Please", "File not found: filepath=model.keras. Please"),
        ("[Errno 2] No such file: '/srv/my models/card.json'", "[Errno 2] No such file: 'card.json'"),
        ('on socket "/var/run/postgresql/.s.PGSQL.5432" failed', 'on socket ".s.PGSQL.5432" failed'),
        ("cannot open file:///srv/v/model.xml", "cannot open file://model.xml"),
        ("'/a/b' -> '/c/d'", "'b' -> 'd'"),
        ("the folder /srv/versions/ is away", "the folder  is away"),
        ("see https://example.org/a/b.html", "see https://example.org/a/b.html"),
        ("expected 3/4/5, #/inputs/3/bmi, ./here/now and 1 / 2 / 3", None),
        ("nothing of the kind", None),
    ],
)
def test_absolute_paths_become_names_and_all_else_stays(text: str, expected: str | None) -> None:
    assert (expected or text) == without_folders(text)


def test_an_error_is_told_by_its_kind_and_words() -> None:
    error = OSError(errno.EMFILE, "Too many open files", "/srv/versions/m/JOB-1/manifest.json")

    assert "OSError: [Errno 24] Too many open files: 'manifest.json'" == told(error)
