"""A checkpoint is whole, its own, and one of the last two; or it is ignored with a reason."""

import errno
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import writing
from models.building import Reporter, build_version
from models.checkpoint import Checkpoint, CheckpointNotWritten, Checkpoints, discard_checkpoints
from models.datasets import load_builtin, split_dataset
from models.epochs import EpochReport
from models.errors import DiskFull, in_full
from models.spec import TrainingSpec, parse_spec
from models.training import FittedModel, fit


class Overtaken(Exception):
    """What the fence of an attempt raises when another has taken over."""


IDENTITY = {"specification": "1", "data set": "2"}


def test_what_is_stored_is_what_is_read(tmp_path: Path) -> None:
    written = checkpoint(3)
    Checkpoints(tmp_path, IDENTITY).save(written)

    read = Checkpoints(tmp_path, IDENTITY).latest()

    assert read is not None
    assert (3, written.history, written.timing) == (read.epoch, read.history, read.timing)
    assert written.statistics == read.statistics
    for name in ("variables", "optimizer_variables", "best_weights"):
        for one, other in zip(getattr(written, name), getattr(read, name), strict=True):
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_folder_without_checkpoints_has_no_latest_one(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", IDENTITY).latest() is None


def test_last_two_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, IDENTITY)

    for epoch in (1, 2, 5, 6):
        store.save(checkpoint(epoch))

    assert [5, 6] == stored_epochs(tmp_path)


def test_epoch_stored_again_replaces_its_checkpoint_and_keeps_the_one_before(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, IDENTITY)
    for epoch in (1, 2, 3):
        store.save(checkpoint(epoch))
    damaged = newest(tmp_path)
    damaged.write_bytes(b"")

    store.save(checkpoint(3, n_bytes=48))

    assert not damaged.exists()
    assert [2, 3] == stored_epochs(tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "its bytes are not those that were written"),
        (lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:], "its bytes are not those"),
        (lambda _: b"", "its bytes are not those that were written"),
    ],
    ids=["truncated", "changed", "emptied"],
)
def test_damaged_checkpoint_gives_way_to_the_older_one(
    damage: Callable[[bytes], bytes], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Checkpoints(tmp_path, IDENTITY)
    store.save(checkpoint(1))
    store.save(checkpoint(2))
    damaged = newest(tmp_path)
    damaged.write_bytes(damage(damaged.read_bytes()))

    with caplog.at_level(logging.WARNING):
        found = store.latest()

    assert found is not None
    assert 1 == found.epoch
    (line,) = caplog.messages
    assert line.startswith(f"checkpoint {damaged.name} is ignored: {reason}")


def test_file_that_is_no_checkpoint_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = b"PK\x03\x04 nothing"
    (tmp_path / f"epoch-000001.{hashlib.sha256(content).hexdigest()}.npz").write_bytes(content)

    with caplog.at_level(logging.WARNING):
        found = Checkpoints(tmp_path, IDENTITY).latest()

    assert found is None
    assert "it is no checkpoint" in caplog.text


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ({"specification": "other", "data set": "2"}, "another specification"),
        ({"specification": "1", "data set": "other"}, "another data set"),
        ({"specification": "1", "data set": "2", "network": "3"}, "another network"),
    ],
)
def test_checkpoint_of_something_else_is_ignored_with_what_differs(
    identity: dict[str, str], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Checkpoints(tmp_path, identity).save(checkpoint(1))

    with caplog.at_level(logging.WARNING):
        found = Checkpoints(tmp_path, IDENTITY).latest()

    assert found is None
    (line,) = caplog.messages
    assert line.endswith(f"it was written for {reason}")


def test_overtaken_attempt_puts_nothing_in_place(tmp_path: Path) -> None:
    def fence() -> None:
        raise Overtaken

    with pytest.raises(Overtaken):
        Checkpoints(tmp_path, IDENTITY, fence).save(checkpoint(1))

    assert [] == list(tmp_path.iterdir())


def test_fault_of_the_fence_is_not_taken_for_one_of_the_disk(tmp_path: Path) -> None:
    def fence() -> None:
        raise ConnectionRefusedError("the database is away")

    with pytest.raises(ConnectionRefusedError):
        Checkpoints(tmp_path, IDENTITY, fence).save(checkpoint(1))


def test_disk_that_is_full_keeps_the_checkpoint_before_and_no_half_of_the_next(
    small_disk: Callable[[int], Path],
) -> None:
    folder = small_disk(200_000)
    store = Checkpoints(folder, IDENTITY)
    store.save(checkpoint(1, n_bytes=120_000))

    with pytest.raises(CheckpointNotWritten, match="No space left on device"):
        store.save(checkpoint(2, n_bytes=120_000))

    assert [1] == stored_epochs(folder)
    assert 1 == len(list(folder.iterdir()))


def test_folder_is_removed_whether_it_is_there_or_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Checkpoints(tmp_path / "job", IDENTITY).save(checkpoint(1))

    discard_checkpoints(tmp_path / "job")
    discard_checkpoints(tmp_path / "job")

    assert [] == list(tmp_path.iterdir())
    assert [] == caplog.messages


def test_fit_goes_on_while_the_disk_is_full_and_stores_again_when_it_is_not(
    small_disk: Callable[[int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = small_disk(2_000_000)
    ballast = folder / "ballast"
    reports: list[EpochReport] = []

    def report(epoch: EpochReport) -> None:
        reports.append(epoch)
        if epoch.epoch == 1:
            fill(ballast)
        if epoch.epoch == 4:
            ballast.unlink()

    with caplog.at_level(logging.WARNING):
        fitted = fit_iris(epochs=6, checkpoints=folder / "job", report=report)

    expected = "Checkpoints could not be written after epochs 2 to 4: No space left on device."
    assert expected == fitted.warnings[0]
    first = "Checkpoints could not be written after epoch 2: No space left on device."
    third = expected.replace("2 to 4", "2 to 3")
    said = [(report.warning or "").partition(": No space left on device.") for report in reports]
    assert ["", *(text.partition(": No")[0] for text in (first, third, expected, expected, expected))] == [
        place if found else "" for place, found, _ in said
    ]
    assert 3 == caplog.text.count("could not be written to")
    assert [5, 6] == stored_epochs(folder / "job")
    assert 2 == len(list((folder / "job").iterdir()))
    untouched = fit_iris(epochs=6)
    assert untouched.history == fitted.history
    for one, other in zip(untouched.model.get_weights(), fitted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_version_for_which_the_disk_has_no_room_fails_with_words_and_is_built_without_fitting_again(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    versions = small_disk(16_384)
    reported: list[int] = []
    reporter = Reporter(epoch=lambda report: reported.append(report.epoch))

    with pytest.raises(DiskFull) as raised:
        build_version(iris(epochs=2), versions / "job", reporter, tmp_path / "checkpoints")

    assert [] == list(versions.iterdir())
    assert [1, 2] == reported
    message = str(raised.value)
    assert message.startswith("The disk is full: the version needs about 0.1 MB, 0.0 MB are free")
    assert str(versions / "job") not in message
    assert str(versions / "job") in in_full(raised.value)
    assert message.endswith("Free space there and resume the job: it goes on from its last checkpoint.")

    small_disk(2_000_000)
    card = build_version(iris(epochs=2), versions / "job", reporter, tmp_path / "checkpoints")

    assert [1, 2, 2] == reported
    assert 2 == card["training"]["epochs"]
    taken = sum(path.stat().st_size for path in (versions / "job").iterdir())
    assert 0.5 * taken < raised.value.needed_bytes < 2 * taken


def test_overtaken_attempt_puts_no_version_in_place(tmp_path: Path) -> None:
    def fence() -> None:
        raise Overtaken

    with pytest.raises(Overtaken), writing(tmp_path / "job", fence=fence) as aside:
        (aside / "model.keras").write_bytes(b"whole")

    assert [] == list(tmp_path.iterdir())


def test_other_faults_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), writing(tmp_path / "job"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def checkpoint(epoch: int, n_bytes: int = 24) -> Checkpoint:
    values = np.arange(n_bytes // 4, dtype=np.float32)
    return Checkpoint(
        epoch=epoch,
        variables=[values, np.array([7, 2**31], dtype=np.uint32)],
        optimizer_variables=[np.array(epoch, dtype=np.int64)],
        best_weights=[np.array([[-0.0, np.float32(0.1)]], dtype=np.float32)],
        history={"val_loss": [0.1, 1e-300, 2 / 3]},
        timing={"seconds": 1.5, "epoch_seconds": [0.5, 1.0]},
        statistics=[{"epoch": 1, "layers": {"dense": {"gradient": 0.1}}}],
    )


def stored_epochs(folder: Path) -> list[int]:
    return sorted(int(path.name[6:12]) for path in folder.iterdir() if path.name.startswith("epoch-"))


def newest(folder: Path) -> Path:
    return max(folder.iterdir())


def fill(path: Path) -> None:
    """Writes until the disk takes no more."""
    with path.open("wb", buffering=0) as file:
        while os.statvfs(path).f_bavail:
            file.write(bytes(4096))


def iris(*, epochs: int) -> TrainingSpec:
    training = {"epochs": epochs, "early_stopping": None}
    architecture = {"type": "mlp", "layers": [4]}
    return parse_spec(
        {"model": "m", "dataset": {"builtin": "iris"}, "architecture": architecture, "training": training}
    )


def fit_iris(*, epochs: int, **keys: Any) -> FittedModel:
    dataset = load_builtin("iris")
    return fit(iris(epochs=epochs), dataset, split_dataset(dataset, test=0.2, validation=0.2), **keys)
