"""Why a job failed is said so that its user can act on it."""

from __future__ import annotations

import errno

import pytest

from models.errors import (
    DiskFull,
    Fault,
    InvalidDataset,
    InvalidSpec,
    LossNotFinite,
    ModelDoesNotFit,
    NotEnoughMemory,
    UnreadableData,
    UnsafeModelFile,
)
from service.jobs.trainer import in_words

FAULT = Fault("#/target", "at least two labels", "one", "add rows with other labels")


@pytest.mark.parametrize(
    ("error", "title", "words"),
    [
        (
            InvalidSpec([FAULT]),
            "The data and the specification do not fit",
            "received one (add rows with other labels)",
        ),
        (UnreadableData([FAULT]), "The data and the specification do not fit", "(add rows with other labels)"),
        (InvalidDataset("Too few. Give more."), "The data and the specification do not fit", "Give more."),
        (LossNotFinite(float("nan"), 2, "batch 17", 1e3), "The loss is not a finite number", "batch 17 in epoch 2"),
        (NotEnoughMemory(10**12, 10**9, 10**11, 32), "Not enough memory", "lower architecture.layers"),
        (UnsafeModelFile("it holds code", "Save it anew."), "The model cannot be imported", "Save it anew."),
        (ModelDoesNotFit("one", "two", "Wrap it."), "The model cannot be imported", "Wrap it."),
        (DiskFull("/home/v", 10**9, 10), "The disk is full", "resume"),
        (OSError(errno.ENOSPC, "full", "/home/v"), "The disk is full", "Free some space and resume the job."),
        (MemoryError(), "Out of memory", "Lower training.batch_size"),
        (RuntimeError("odd"), "Training failed", "GET /train/<job>/logs has the details"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/home/v/rows.npy"), "Training failed", "'rows.npy'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_job_says_what_was_wrong_and_what_to_do(error: Exception, title: str, words: str) -> None:
    said = in_words(error)

    assert title == said["title"]
    assert words in said["detail"]
    assert "/home" not in said["detail"]
