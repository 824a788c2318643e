"""Images of several sizes, and images in a folder: read as those of one size in a ZIP, and bounded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import digits_by_label, enlarged, folder_of, png, zip_of
from PIL import Image

from models.errors import InvalidSpec, UnreadableData
from models.sources.folder import DataFolder
from models.sources.reading import Reading, profile_file, read_raw
from models.spec import parse_spec
from models.spec.data import DatasetSpec

IMAGES: Any = {"image": "image"}
SIZES = [(8, 8), (16, 16), (24, 20)]


def digits_of_several_sizes(n_images: int) -> dict[str, np.ndarray]:
    named = digits_by_label(n_images).items()
    return {name: enlarged(pixels, *SIZES[i % len(SIZES)]) for i, (name, pixels) in enumerate(named)}


def pngs(pictures: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: png(pixels) for name, pixels in pictures.items()}


def spec_of(path: str, **keys: Any) -> dict[str, Any]:
    return {"model": "m", "dataset": {"path": path}, **keys}


def faults_of(folder: DataFolder, spec: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(spec, folder.facts_of)
    return [(fault.pointer, fault.received) for fault in refused.value.faults]


def test_folder_of_images_is_what_a_zip_of_them_is(tmp_path: Path) -> None:
    files = pngs(digits_by_label(60))
    folder, archive = folder_of(tmp_path / "photos", files), zip_of(tmp_path / "photos.zip", files)
    folder_of(folder, {".hidden/1.png": b"", "0/Thumbs.db": b"", "__MACOSX/0/1.png": b""})

    profiles = [profile_file(path) for path in (folder, archive)]
    raws = [
        read_raw(path, profile, Reading(IMAGES, "label", labelled=True))
        for path, profile in zip((folder, archive), profiles, strict=True)
    ]

    assert profiles[0].columns == profiles[1].columns
    assert ("images", 60) == (profiles[0].format, profiles[0].rows)
    np.testing.assert_array_equal(raws[0].columns["image"].values, raws[1].columns["image"].values)
    assert raws[0].row_digests == raws[1].row_digests


def test_digest_of_a_folder_follows_names_and_contents(tmp_path: Path) -> None:
    files = pngs(digits_by_label(4))
    moved = {f"x{name}": content for name, content in files.items()}
    other = {**files, "0/0000.png": png(np.zeros((8, 8)))}

    digests = [
        profile_file(folder_of(tmp_path / str(i), each)).sha256 for i, each in enumerate((files, files, moved, other))
    ]

    assert digests[0] == digests[1]
    assert 3 == len(set(digests))


def test_changed_folder_is_read_again(tmp_path: Path) -> None:
    folder, dataset = DataFolder(tmp_path), DatasetSpec(path="photos")
    folder_of(tmp_path / "photos", pngs(digits_by_label(20)))
    before = folder.profile(dataset)

    known = folder.known_profile(dataset)
    folder_of(tmp_path / "photos", {"1/new.png": png(np.ones((8, 8)))})

    assert before == known
    assert folder.known_profile(dataset) is None
    assert (20, 21) == (before.rows, folder.profile(dataset).rows)


@pytest.mark.parametrize(
    ("path", "received"),
    [
        ("../photos", "the string '../photos'"),
        ("photos/../../other", "the string 'photos/../../other'"),
        (".", "the string '.'"),
        ("uploads", "the string 'uploads'"),
        ("out", "the string 'out'"),
        ("again", "the string 'again'"),
        ("linked", "a symbolic link, 'b/2.png'"),
        ("piped", "a special file, 'b/2.png'"),
        ("deep", "the folder 'a/b/c' deep in others"),
        ("flat", "'1.png'"),
        ("empty", "a folder without an image"),
        ("mixed", "'b/notes.txt'"),
        ("broken", "'b/2.png', which is none"),
    ],
)
def test_folder_that_leads_out_or_holds_other_things_is_refused(tmp_path: Path, path: str, received: str) -> None:
    root, image = tmp_path / "data", png(np.arange(64).reshape(8, 8))
    two = {"a/1.png": image, "b/1.png": image}
    for name in ("photos", "linked", "piped"):
        folder_of(root / name, two)
    folder_of(tmp_path / "elsewhere", two)
    (root / "linked" / "b" / "2.png").symlink_to(tmp_path / "elsewhere" / "a" / "1.png")
    os.mkfifo(root / "piped" / "b" / "2.png")
    folder_of(root / "deep", {"a/b/c/d/1.png": image})
    folder_of(root / "flat", {"1.png": image})
    folder_of(root / "mixed", {**two, "b/notes.txt": b"x"})
    folder_of(root / "broken", {**two, "b/2.png": b"x"})
    folder_of(root / "uploads" / ("0" * 64), two)
    (root / "empty").mkdir()
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(root / "uploads" / ("0" * 64))

    assert [("#/dataset/path", received)] == faults_of(DataFolder(root), spec_of(path))


def test_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "photos", pngs(digits_by_label(20)))

    with pytest.raises(UnreadableData, match="at most 1,000 bytes of images"):
        profile_file(tmp_path / "photos", expanded_limit_bytes=1000)
    monkeypatch.setattr("models.sources.image_folder.MAX_FILES", 19)
    with pytest.raises(UnreadableData, match="at most 19 files in a folder"):
        profile_file(tmp_path / "photos")


def test_images_of_several_sizes_are_read_at_the_size_that_is_stated(tmp_path: Path) -> None:
    pictures = digits_of_several_sizes(30)
    path = zip_of(tmp_path / "photos.zip", pngs(pictures))

    profile = profile_file(path)
    raw = read_raw(path, profile, Reading(IMAGES, "label", labelled=True, image_size=(6, 10)))

    assert profile.has_several_sizes
    assert 3 == profile.reading["different_sizes"]
    assert {"width": 20, "height": 24, "images": 10} in profile.reading["sizes"]
    first = sorted(pictures)[0]
    expected = Image.fromarray(pictures[first]).resize((10, 6), Image.Resampling.BILINEAR)
    assert ((30, 6, 10, 1), (0.0, 255.0)) == (raw.columns["image"].values.shape, raw.columns["image"].scale)
    np.testing.assert_array_equal(np.asarray(expected), raw.columns["image"].values[0, ..., 0])


def test_row_keeps_its_part_at_every_size(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "photos.zip", pngs(digits_of_several_sizes(30)))
    profile = profile_file(path)

    small, large = (
        read_raw(path, profile, Reading(IMAGES, "label", labelled=True, image_size=size)) for size in ((4, 4), (9, 9))
    )

    assert small.row_digests == large.row_digests


def test_images_of_several_sizes_need_one_that_fits_into_memory(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", pngs(digits_of_several_sizes(30)))
    folder = DataFolder(tmp_path, expanded_limit_bytes=200_000)

    without = faults_of(folder, spec_of("photos"))
    too_large = faults_of(folder, spec_of("photos", preprocessing={"image": {"resize": [100, 100]}}))
    spec = parse_spec(spec_of("photos", preprocessing={"image": {"resize": [8, 8]}}), folder.facts_of)

    assert [("#/preprocessing/image/resize", "null, for images of several sizes")] == without
    assert [("#/preprocessing/image/resize", "1,200,000 bytes")] == too_large
    assert (8, 8) == spec.preprocessing.image.resize


def test_dark_pictures_have_the_scale_of_pictures(tmp_path: Path) -> None:
    """Their darkest data set tells nothing of what a request may hold."""
    dark = {f"{'ab'[i % 2]}/{i}.png": png(np.full((4, 4), i)) for i in range(20)}
    path = zip_of(tmp_path / "dark.zip", dark)

    raw = read_raw(path, profile_file(path), Reading(IMAGES, "label", labelled=True))

    assert (0.0, 255.0) == raw.columns["image"].scale
