"""The response cache: what makes two questions the same, what is kept and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
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
    ("rows", "output", "identity", "engine"),
    [
        (ROWS, "logit", b"v", "onnxruntime"),
        (ROWS, "value", b"w", "onnxruntime"),
        (ROWS, "value", b"v", "openvino"),
        (ROWS[::-1], "value", b"v", "onnxruntime"),
        (ROWS.reshape(4, 1), "value", b"v", "onnxruntime"),
        (ROWS.astype(np.float64), "value", b"v", "onnxruntime"),
        (np.nextafter(ROWS, np.float32(9)), "value", b"v", "onnxruntime"),
        (ROWS[:1], "value", b"v", "onnxruntime"),
    ],
)
def test_rows_of_other_values_shapes_outputs_versions_and_engines_are_other_questions(
    rows: np.ndarray, output: str, identity: bytes, engine: str
) -> None:
    key = prediction_key(b"v", ROWS, "value", "onnxruntime")

    assert key != prediction_key(identity, rows, output, engine)
    assert key == prediction_key(b"v", ROWS.copy(), "value", "onnxruntime")


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


async def look_up(cache: ResponseCache[np.ndarray], name: str) -> bool:
    """Whether there is something under a key; nothing is kept for it."""

    async def nothing() -> np.ndarray:
        return np.zeros(0)

    return (await cache.answer("predict", (name,), nothing, is_kept=lambda _value: False))[1]


def test_what_was_used_longest_ago_goes_when_the_bytes_are_used_up() -> None:
    outputs = np.zeros(100, np.float32)
    cache = ResponseCache[np.ndarray](3 * (held_bytes(outputs) + ENTRY_BYTES))
    for name in "abc":
        cache.put((name,), outputs)

    asyncio.run(look_up(cache, "a"))
    cache.put(("d",), outputs)

    assert [True, False, True, True] == [asyncio.run(look_up(cache, name)) for name in "abcd"]
    assert (3, 1) == (len(cache), cache.evictions)
    assert cache.n_bytes == 3 * (held_bytes(outputs) + ENTRY_BYTES)
    assert {("predict", "hit"): 4, ("predict", "miss"): 1} == cache.outcomes


def test_the_same_key_is_kept_once_and_what_is_larger_than_all_not_at_all() -> None:
    cache = ResponseCache[np.ndarray](10_000)

    for value in (np.zeros(100), np.ones(100), np.zeros(10_000)):
        cache.put(("a",), value)

    assert asyncio.run(look_up(cache, "a"))
    assert cache.n_bytes == held_bytes(np.ones(100)) + ENTRY_BYTES


@pytest.mark.parametrize(
    ("reasons", "kept"), [(["exact", "tolerance"], True), (["budget"], True), (["exact", "deadline"], False)]
)
def test_what_a_deadline_cut_short_is_computed_again(reasons: list[str], kept: bool) -> None:
    assert kept == can_be_kept([estimate(reason) for reason in reasons])


def test_arrays_within_what_is_kept_are_counted() -> None:
    assert 4 * 4 * 8 < held_bytes([estimate("exact")]) < 4 * 4 * 8 + 2500


# -- identical questions at once -------------------------------------------------------------------------------------


@dataclass
class Work:
    """A computation that ends when it is told to, and how often it was begun."""

    begun: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def __call__(self) -> str:
        self.begun += 1
        number = self.begun
        await self.ended.wait()
        if self.error is not None:
            raise self.error
        return f"computed {number}"


def at_once(
    test: Callable[[ResponseCache[str], Work, Callable[[], asyncio.Task[tuple[str, bool]]]], Coroutine[Any, Any, None]],
) -> None:
    """Runs a test with a cache, a computation, and what asks for it in a task that is waiting when it is returned."""

    async def run() -> None:
        cache, work = ResponseCache[str](10_000), Work()
        await asyncio.wait_for(test(cache, work, lambda: asyncio.create_task(cache.answer("predict", KEY, work))), 60)
        assert {} == cache._computations

    asyncio.run(run())


KEY = ("a",)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_of_identical_questions_at_once_one_is_computed_and_the_others_are_hits() -> None:
    async def test(cache: ResponseCache[str], work: Work, ask: Callable[[], asyncio.Task[tuple[str, bool]]]) -> None:
        asked = [ask() for _ in range(5)]
        await turns()
        assert 1 == work.begun
        assert {("predict", "miss"): 1} == cache.outcomes

        work.ended.set()

        assert [("computed 1", False), *[("computed 1", True)] * 4] == [await each for each in asked]
        assert {("predict", "miss"): 1, ("predict", "hit"): 4} == cache.outcomes
        assert ("computed 1", True) == await ask()
        assert 1 == work.begun

    at_once(test)


def test_where_the_first_fails_each_of_the_others_computes_for_itself_at_once() -> None:
    async def test(cache: ResponseCache[str], work: Work, ask: Callable[[], asyncio.Task[tuple[str, bool]]]) -> None:
        asked = [ask() for _ in range(3)]
        await turns()
        work.error = ValueError("the first")
        work.ended.set()
        with pytest.raises(ValueError, match="the first"):
            await asked[0]
        work.error = None
        work.ended.clear()
        await turns()
        assert 3 == work.begun

        work.ended.set()

        assert [("computed 2", False), ("computed 3", False)] == [await each for each in asked[1:]]
        assert {("predict", "miss"): 3} == cache.outcomes

    at_once(test)


def test_where_the_first_is_called_off_the_next_one_is_computed_for_the_rest() -> None:
    async def test(cache: ResponseCache[str], work: Work, ask: Callable[[], asyncio.Task[tuple[str, bool]]]) -> None:
        asked = [ask() for _ in range(4)]
        await turns()
        asked[0].cancel()
        await turns()
        assert 2 == work.begun
        asked[1].cancel()
        await turns()
        assert 3 == work.begun

        work.ended.set()

        assert [("computed 3", False), ("computed 3", True)] == [await each for each in asked[2:]]
        assert [True, True] == [each.cancelled() for each in asked[:2]]
        assert {("predict", "miss"): 3, ("predict", "hit"): 1} == cache.outcomes

    at_once(test)


def test_one_who_waits_gives_up_at_its_own_deadline_and_harms_nobody() -> None:
    async def test(cache: ResponseCache[str], work: Work, ask: Callable[[], asyncio.Task[tuple[str, bool]]]) -> None:
        first, hasty, last = ask(), ask(), ask()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hasty, 0.01)

        work.ended.set()

        assert [("computed 1", False), ("computed 1", True)] == [await first, await last]
        assert 1 == work.begun
        assert {("predict", "miss"): 1, ("predict", "hit"): 1} == cache.outcomes

    at_once(test)


def test_who_waits_gets_what_is_not_kept_for_later() -> None:
    async def test(cache: ResponseCache[str], work: Work, _ask: Any) -> None:
        asked = [
            asyncio.create_task(cache.answer("explain", KEY, work, is_kept=lambda _value: False)) for _ in range(2)
        ]
        await turns()

        work.ended.set()

        assert [("computed 1", False), ("computed 1", True)] == [await each for each in asked]
        assert ("computed 2", False) == await cache.answer("explain", KEY, work)

    at_once(test)


def test_other_questions_do_not_wait() -> None:
    async def test(cache: ResponseCache[str], work: Work, ask: Callable[[], asyncio.Task[tuple[str, bool]]]) -> None:
        asked = ask()

        async def other() -> str:
            return "other"

        assert ("other", False) == await cache.answer("predict", ("b",), other)
        work.ended.set()
        assert ("computed 1", False) == await asked

    at_once(test)
