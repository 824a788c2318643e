"""A fit that is killed and resumed ends in the same bits as one that was left alone."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attempts import AttemptServer, Outcome

pytestmark = pytest.mark.long

COLUMNS: dict[str, Any] = {
    "model": "m",
    "dataset": {"builtin": "breast_cancer"},
    "architecture": {"type": "mlp", "layers": [16, 8]},
    "regularization": {"dropout": 0.3},
    "training": {
        "epochs": 20,
        "batch_size": 64,
        "learning_rate": 0.01,
        "class_weight": "balanced",
        "early_stopping": {"patience": 4},
        "schedule": {"type": "plateau", "factor": 0.5, "patience": 2},
    },
}
BEST, LAST = 11, 15
IMAGES: dict[str, Any] = {
    "model": "m",
    "dataset": {"builtin": "digits"},
    "architecture": {"type": "cnn", "layers": [4]},
    "training": {"epochs": 3, "batch_size": 256, "optimizer": "adamw", "schedule": {"type": "cosine"}},
}

CHANGED: dict[str, Any] = {
    **IMAGES,
    "architecture": {"type": "cnn", "layers": [4], "normalization": "batch"},
    "regularization": {
        "label_smoothing": 0.1,
        "augmentation": [
            {"type": "flip"},
            {"type": "shift"},
            {"type": "rotate"},
            {"type": "zoom"},
            {"type": "noise"},
        ],
    },
    "training": {
        "epochs": 3,
        "batch_size": 256,
        "optimizer": "sgd",
        "gradient_clip": {"type": "norm"},
        "schedule": {"type": "step", "every": 1},
        "warmup_epochs": 1,
    },
}


@pytest.fixture(scope="module")
def attempts() -> Iterator[AttemptServer]:
    server = AttemptServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def uninterrupted(attempts: AttemptServer, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome = attempts.finished(COLUMNS, None, tmp_path_factory.mktemp("uninterrupted") / "out")
    rates = outcome.history["learning_rate"]
    # What the kills below rely on: a lower rate before and after the best epoch, and a stop after it.
    assert (BEST, LAST) == (outcome.best_epoch, len(rates))
    assert rates[0] > rates[BEST - 1] > rates[-1]
    return outcome


def test_killed_before_inside_and_after_the_best_epoch_it_ends_in_the_same_bits(
    attempts: AttemptServer, uninterrupted: Outcome, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    attempts.killed(COLUMNS, checkpoints, epoch=4, batch=2)
    attempts.killed(COLUMNS, checkpoints, epoch=BEST, batch=5)
    attempts.killed(COLUMNS, checkpoints, epoch=BEST + 2, batch=1)
    assert [BEST, BEST + 1] == epochs(checkpoints)

    resumed = attempts.finished(COLUMNS, checkpoints, tmp_path / "out")

    assert_same(uninterrupted, resumed)
    assert list(range(BEST + 1, LAST + 1)) == resumed.reported
    assert f"resuming after epoch {BEST + 1} of 20" in resumed.log


def test_killed_while_a_checkpoint_is_written_it_resumes_from_the_one_before(
    attempts: AttemptServer, uninterrupted: Outcome, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    attempts.killed(COLUMNS, checkpoints, while_storing=3)
    assert [1, 2] == epochs(checkpoints)
    (leftover,) = (name for name in names(checkpoints) if name.endswith(".writing"))

    resumed = attempts.finished(COLUMNS, checkpoints, tmp_path / "out")

    assert_same(uninterrupted, resumed)
    assert list(range(2, LAST + 1)) == resumed.reported
    assert leftover not in names(checkpoints)


def test_truncated_newest_checkpoint_gives_way_to_the_older_one(
    attempts: AttemptServer, uninterrupted: Outcome, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    attempts.killed(COLUMNS, checkpoints, after=3)
    newest = checkpoints / names(checkpoints)[-1]
    os.truncate(newest, newest.stat().st_size // 2)

    resumed = attempts.finished(COLUMNS, checkpoints, tmp_path / "out")

    assert_same(uninterrupted, resumed)
    assert 2 == resumed.reported[0]
    assert f"checkpoint {newest.name} is ignored: its bytes are not those that were written" in resumed.log
    assert [LAST - 1, LAST] == epochs(checkpoints)


def test_killed_after_the_last_epoch_no_epoch_is_fitted_again(
    attempts: AttemptServer, uninterrupted: Outcome, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    attempts.killed(COLUMNS, checkpoints, after=LAST)
    stored = names(checkpoints)

    resumed = attempts.finished(COLUMNS, checkpoints, tmp_path / "out")

    assert_same(uninterrupted, resumed)
    assert [LAST] == resumed.reported
    assert stored == names(checkpoints)


def test_convolutions_with_a_cosine_schedule_end_in_the_same_bits(attempts: AttemptServer, tmp_path: Path) -> None:
    alone = attempts.finished(IMAGES, None, tmp_path / "alone")
    attempts.killed(IMAGES, tmp_path / "checkpoints", epoch=2, batch=2)

    resumed = attempts.finished(IMAGES, tmp_path / "checkpoints", tmp_path / "out")

    assert_same(alone, resumed)
    assert [1, 2, 3] == resumed.reported


def test_augmented_and_normalized_rows_end_in_the_same_bits(attempts: AttemptServer, tmp_path: Path) -> None:
    alone = attempts.finished(CHANGED, None, tmp_path / "alone")
    attempts.killed(CHANGED, tmp_path / "checkpoints", epoch=2, batch=2)

    resumed = attempts.finished(CHANGED, tmp_path / "checkpoints", tmp_path / "out")

    assert_same(alone, resumed)
    assert alone.statistics == resumed.statistics
    assert [1, 2, 3] == resumed.reported


def assert_same(expected: Outcome, actual: Outcome) -> None:
    assert expected.history == actual.history
    assert expected.best_epoch == actual.best_epoch
    for one, other in zip(expected.weights, actual.weights, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def names(checkpoints: Path) -> list[str]:
    return sorted(path.name for path in checkpoints.iterdir()) if checkpoints.exists() else []


def epochs(checkpoints: Path) -> list[int]:
    return [int(name[len("epoch-") :].split(".")[0]) for name in names(checkpoints) if name.startswith("epoch-")]
