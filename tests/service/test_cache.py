"""The response cache: what makes two questions the same, what is kept and for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain.attribution import Estimate
from models.artifact import Artifact
from service.serving.cache import (
    ENTRY_BYTES,
    ResponseCache,
    can_be_kept,
    explanation_key,
    held_bytes,
    identity_of,
    prediction_key,
)
from service.serving.explaining import ExplanationOrder

ROWS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
ORDER = ExplanationOrder(((0,), (0,)), "value", "auto", 0.01, 1000, None, strict=False, seed=0, options={"a": 1})


def estimate(stop_reason: Any) -> Estimate:
    shares = np.zeros((4, 1))
    totals = np.zeros(1)
    return Estimate("kernel", "shapley", shares, shares, shares, totals, totals, totals, 10, stop_reason)


@pytest.mark.parametrize(
    ("rows", "output", "identity"),
    [
        (ROWS, "logit", b"v"),
        (ROWS, "value", b"w"),
        (ROWS[::-1], "value", b"v"),
        (ROWS.reshape(4, 1), "value", b"v"),
        (ROWS.astype(np.float64), "value", b"v"),
        (np.nextafter(ROWS, np.float32(9)), "value", b"v"),
        (ROWS[:1], "value", b"v"),
    ],
)
def test_rows_of_other_values_shapes_outputs_and_versions_are_other_questions(
    rows: np.ndarray, output: str, identity: bytes
) -> None:
    assert prediction_key(b"v", ROWS, "value") != prediction_key(identity, rows, output)
    assert prediction_key(b"v", ROWS, "value") == prediction_key(b"v", ROWS.copy(), "value")


@pytest.mark.parametrize(
    "asked",
    [
        {"targets": ((0,), (1,))},
        {"output": "logit"},
        {"method": "kernel"},
        {"tolerance": 0.02},
        {"deadline_ms": 2000},
        {"budget": 100},
        {"strict": True},
        {"seed": 1},
        {"options": {"a": 2}},
        {"given": ({"text": "a"}, {"text": "b"})},
    ],
)
def test_every_option_and_the_seed_make_another_question(asked: dict[str, Any]) -> None:
    key = explanation_key(b"v", ROWS, ORDER)

    assert key != explanation_key(b"v", ROWS, replace(ORDER, **asked))
    assert key == explanation_key(b"v", ROWS, replace(ORDER, options={"a": 1}))


def test_versions_are_told_apart_by_their_files(diabetes_artifact: Artifact, other_diabetes_artifact: Artifact) -> None:
    again = Artifact(Path("elsewhere"), dict(reversed(diabetes_artifact.hashes.items())))

    assert identity_of(diabetes_artifact) == identity_of(again)
    assert identity_of(diabetes_artifact) != identity_of(other_diabetes_artifact)


def test_what_was_used_longest_ago_goes_when_the_bytes_are_used_up() -> None:
    outputs = np.zeros(100, np.float32)
    cache = ResponseCache[np.ndarray](3 * (held_bytes(outputs) + ENTRY_BYTES))
    for name in "abc":
        cache.put((name,), outputs)

    cache.get("predict", ("a",))
    cache.put(("d",), outputs)

    assert [True, False, True, True] == [cache.get("predict", (name,)) is not None for name in "abcd"]
    assert (3, 1) == (len(cache), cache.evictions)
    assert cache.n_bytes == 3 * (held_bytes(outputs) + ENTRY_BYTES)
    assert {("predict", "hit"): 4, ("predict", "miss"): 1} == cache.outcomes


def test_the_same_key_is_kept_once_and_what_is_larger_than_all_not_at_all() -> None:
    cache = ResponseCache[np.ndarray](10_000)

    for value in (np.zeros(100), np.ones(100), np.zeros(10_000)):
        cache.put(("a",), value)

    assert np.array_equal(np.ones(100), cache.get("predict", ("a",)))
    assert cache.n_bytes == held_bytes(np.ones(100)) + ENTRY_BYTES


@pytest.mark.parametrize(
    ("reasons", "kept"), [(["exact", "tolerance"], True), (["budget"], True), (["exact", "deadline"], False)]
)
def test_what_a_deadline_cut_short_is_computed_again(reasons: list[str], kept: bool) -> None:
    assert kept == can_be_kept([estimate(reason) for reason in reasons])


def test_arrays_within_what_is_kept_are_counted() -> None:
    assert 4 * 4 * 8 < held_bytes([estimate("exact")]) < 4 * 4 * 8 + 2500
