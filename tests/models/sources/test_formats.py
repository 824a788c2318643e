"""Parquet, NPZ and ZIPs of images give the same raw data as they were written from; what is hostile is refused."""

import io
import os
import stat
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files import csv_of, digit_images, png, write, zip_of
from sklearn.datasets import load_digits, load_wine

from models.errors import UnreadableData
from models.sources.profile import Profile
from models.sources.reading import Reading, profile_file, read_raw

GREY = np.arange(64).reshape(8, 8)


def refusal(path: Path, **limits: int) -> str:
    with pytest.raises(UnreadableData) as refused:
        profile_file(path, **limits)
    return str(refused.value)


def numeric_reading(profile: Profile, target: str) -> Reading:
    return Reading({name: "numeric" for name in profile.names if name != target}, target, labelled=True)


def csv_file(folder: Path, columns: dict[str, Any]) -> Path:
    return write(folder / "t.csv", csv_of(columns))


def parquet_file(folder: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=50)
    return folder / "t.parquet"


def npz_file(folder: Path, columns: dict[str, Any]) -> Path:
    np.savez(folder / "t.npz", allow_pickle=False, **{name: np.asarray(values) for name, values in columns.items()})
    return folder / "t.npz"


@pytest.mark.parametrize("write_file", [csv_file, parquet_file, npz_file])
def test_table_is_the_same_whatever_format_it_comes_in(
    tmp_path: Path, write_file: Callable[[Path, dict[str, Any]], Path]
) -> None:
    bunch: Any = load_wine()
    columns = dict(zip(bunch.feature_names, bunch.data.T, strict=True))
    path = write_file(tmp_path, {**columns, "class": bunch.target_names[bunch.target]})

    profile = profile_file(path)
    raw = read_raw(path, profile, numeric_reading(profile, "class"))

    assert (178, 0) == (profile.rows, profile.duplicate_rows)
    for name, values in columns.items():
        np.testing.assert_array_equal(values, raw.columns[name].values)
        np.testing.assert_allclose(values.mean(), profile.column(name).figures["mean"], rtol=1e-12)
        np.testing.assert_allclose(values.std(), profile.column(name).figures["deviation"], rtol=1e-12)
    np.testing.assert_array_equal(bunch.target_names[bunch.target], raw.columns["class"].values)
    assert 178 == len(set(raw.row_digests))


def test_types_of_a_parquet_file_are_kinds(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path,
        {
            "flag": [True, None, False],
            "when": [datetime(2026, 1, 2, 3), None, datetime(2026, 2, 3)],
            "grade": pa.array(["a", None, "b"]).dictionary_encode(),
            "count": pa.array([1, 2, None], pa.int64()),
            "code": ["01", "2", "3"],
            "nested": [[1], [2], [3]],
        },
    )

    profile = profile_file(path)
    kinds: Any = {"flag": "boolean", "when": "date", "grade": "categorical", "count": "numeric"}
    raw = read_raw(path, profile, Reading(kinds, "code", labelled=True))

    assert [*kinds.values(), "categorical", None] == [column.kind for column in profile.columns]
    assert "ignore" in profile.column("nested").cure
    np.testing.assert_array_equal([1.0, np.nan, 0.0], raw.columns["flag"].values)
    np.testing.assert_array_equal(
        np.array(["2026-01-02T03:00", "NaT", "2026-02-03"], "datetime64[ms]"), raw.columns["when"].values
    )
    assert ["a", None, "b"] == raw.columns["grade"].values.tolist()
    np.testing.assert_array_equal([1.0, 2.0, np.nan], raw.columns["count"].values)


def test_matrix_with_names_and_target_is_a_table(tmp_path: Path) -> None:
    path = npz_file(tmp_path, {"X": [[1.0, 2], [3, 4], [5, 6]], "y": [0, 1, 0], "feature_names": ["a", "b"]})

    profile = profile_file(path)

    assert ("a", "b", "y") == profile.names
    assert [1.0, 5.0] == [profile.column("a").figures[name] for name in ("min", "max")]


@pytest.mark.parametrize(
    ("shape", "kind", "possible"),
    [
        ((20, 6, 2), "series", ("series", "image")),
        ((20, 4, 4, 1), "image", ("image",)),
    ],
)
def test_deep_array_is_one_feature(tmp_path: Path, shape: tuple[int, ...], kind: Any, possible: Any) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    path = npz_file(tmp_path, {"X": values, "y": np.arange(20) % 2})

    profile = profile_file(path)
    raw = read_raw(path, profile, Reading({"X": kind}, "y", labelled=True))

    assert (kind, possible, shape[1:]) == (
        profile.column("X").kind,
        profile.column("X").possible,
        profile.column("X").shape,
    )
    np.testing.assert_array_equal(values, raw.columns["X"].values)
    assert 20 == len(set(raw.row_digests))


def test_grey_images_of_three_axes_get_a_channel_when_they_are_said_to_be_images(tmp_path: Path) -> None:
    images = load_digits().images[:30]
    path = npz_file(tmp_path, {"X": images, "y": np.arange(30) % 2})

    raw = read_raw(path, profile_file(path), Reading({"X": "image"}, "y", labelled=True))

    assert (30, 8, 8, 1) == raw.columns["X"].values.shape
    assert (0.0, 16.0) == raw.columns["X"].scale


@pytest.mark.parametrize("folder", ["", "digits/"])
def test_class_folders_are_labels(tmp_path: Path, folder: str) -> None:
    bunch: Any = load_digits()
    path = digit_images(tmp_path / "d.zip", 40, folder)

    profile = profile_file(path)
    raw = read_raw(path, profile, Reading({"image": "image"}, "label", labelled=True))

    assert ("images", "label", 40) == (profile.format, profile.target, profile.rows)
    order = sorted(range(40), key=lambda i: (str(bunch.target[i]), i))
    np.testing.assert_array_equal(bunch.images[order, :, :, np.newaxis] * 15, raw.columns["image"].values)
    assert [str(bunch.target[i]) for i in order] == raw.columns["label"].values.tolist()
    assert (0.0, 255.0) == raw.columns["image"].scale


def test_images_are_turned_as_their_camera_says_and_coloured_when_one_is(tmp_path: Path) -> None:
    from PIL import Image

    turned = Image.fromarray(np.arange(32, dtype=np.uint8).reshape(4, 8))
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    coloured = np.zeros((8, 4, 3))
    path = zip_of(tmp_path / "i.zip", {"a/1.png": buffer.getvalue(), "b/1.png": png(coloured)})

    raw = read_raw(path, profile_file(path), Reading({"image": "image"}, "label", labelled=True))

    assert (2, 8, 4, 3) == raw.columns["image"].values.shape
    np.testing.assert_array_equal(np.rot90(np.asarray(turned), -1), raw.columns["image"].values[0, :, :, 0])


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (entry("../evil/1.png"), "'../evil/1.png'"),
        (entry("/etc/1.png"), "'/etc/1.png'"),
        (entry("a/../../1.png"), "paths inside the ZIP"),
        (entry("a\\..\\1.png"), "paths inside the ZIP"),
        (entry("a/1.png", stat.S_IFLNK | 0o777), "a symbolic link, 'a/1.png'"),
        (entry("a/1.png", stat.S_IFIFO | 0o644), "a special file"),
    ],
)
def test_entry_that_leads_elsewhere_is_refused(tmp_path: Path, info: zipfile.ZipInfo, words: str) -> None:
    path = zip_of(tmp_path / "z.zip", [(entry("a/0.png"), png(GREY)), (info, png(GREY))])

    assert words in refusal(path)


def test_zip_that_unpacks_to_more_than_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "bomb.zip", {"a/1.png": bytes(50_000_000)})

    message = refusal(path, expanded_limit_bytes=10_000_000)

    assert path.stat().st_size < 100_000
    assert "at most 10,000,000 bytes once it is unpacked" in message
    assert "VITRINE_DATASET_EXPANDED_LIMIT_BYTES" in message


def test_array_that_states_a_size_it_does_not_have_is_refused_unallocated(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 1000)})
    path = zip_of(tmp_path / "bomb.npz", {"X.npy": header.getvalue() + bytes(80), "y.npy": header.getvalue()})

    assert "bytes for 'X.npy', received 80" in refusal(path)


def test_parquet_of_one_repeated_value_counts_as_what_it_becomes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": np.zeros(3_000_000), "y": np.zeros(3_000_000)}), tmp_path / "run.parquet")

    message = refusal(tmp_path / "run.parquet", expanded_limit_bytes=10_000_000)

    assert (tmp_path / "run.parquet").stat().st_size < 200_000
    assert "48,000,000 bytes" in message


def test_object_array_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    trap = np.empty(2, dtype=object)
    trap[:] = [Trap(), Trap()]
    np.savez(tmp_path / "trap.npz", X=trap, y=np.arange(2))

    message = refusal(tmp_path / "trap.npz")

    assert "would have to be unpickled" in message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"a/1.png": png(GREY), "a/2.png": b"no image at all"}, "'a/2.png', which is none"),
        ({"a/1.png": png(GREY), "b/2.png": png(GREY)[:-30]}, "'b/2.png'"),
        ({"1.png": png(GREY)}, "a folder for each label"),
        ({"a/b/c/1.png": png(GREY)}, "a folder for each label"),
        ({"a/1.png": png(GREY), "a/readme.txt": b"x"}, "remove what is no image"),
        ({}, "ZIP without a file"),
    ],
)
def test_zip_that_is_no_set_of_images_is_refused(tmp_path: Path, entries: dict[str, bytes], words: str) -> None:
    assert words in refusal(zip_of(tmp_path / "z.zip", entries))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": np.zeros((3, 2)), "y": np.zeros(4)}, "X (3, 2), y (4,)"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "arrays without a row"),
        ({"X": np.zeros((3, 2), complex), "y": np.zeros(3)}, "complex128"),
        ({"X": np.zeros((3, 2, 2, 2, 2)), "y": np.zeros(3)}, "of shape (3, 2, 2, 2, 2)"),
        ({"X": np.zeros(3)}, "one array"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(3), "feature_names": ["a", "a"]}, "a different name for each column"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    assert words in refusal(npz_file(tmp_path, arrays))


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"PK\x03\x04 and no more"])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "cannot be read as one" in refusal(write(tmp_path / "f", content))


def test_pixel_bomb_is_refused_without_decoding_it(tmp_path: Path) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("1", (8192, 8192)).save(buffer, "PNG")

    assert "at most 16,777,216 pixels an image" in refusal(zip_of(tmp_path / "z.zip", {"a/1.png": buffer.getvalue()}))
