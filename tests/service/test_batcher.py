"""Rows of many requests in one call: nothing is mixed up, nothing waits when idle, what is too much is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.errors import TooManyRowsWaiting
from service.serving import patient
from service.serving.batcher import PADDED_ROWS, Batcher, Batching


@dataclass(frozen=True)
class Cost:
    """A call costs `call_ms` and `row_ms` for each row."""

    call_ms: float
    row_ms: float


CHEAP, DEAR = Cost(0.02, 0.0001), Cost(1.0, 0.5)


class Doubler:
    """An engine that doubles its rows, and remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def evaluate(self, rows: np.ndarray, output: str) -> np.ndarray:
        self.calls.append((len(rows), output))
        self.threads.add(threading.current_thread().name)
        self.gate.wait(60)
        if (rows < 0).any():
            raise ValueError("a row that this engine cannot take")
        return rows[:, :1] * (2 if output == "value" else 3)

    async def aside(self, rows: np.ndarray, output: str) -> np.ndarray:
        return await asyncio.to_thread(self.evaluate, rows, output)


def batcher_of(engine: Doubler, price: Cost | None, *, lanes: int = 1, **batching: Any) -> Batcher:
    return Batcher(
        "doubler",
        engine.evaluate if price else None,
        engine.aside,
        lanes=lanes,
        price=price,
        batching=Batching(**batching),
    )


def rows_of(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, np.newaxis]


def running(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("price", [CHEAP, DEAR], ids=["on the event loop", "in threads"])
def test_each_request_gets_the_outputs_of_its_own_rows(price: Cost) -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, price, lanes=2)
        requests = [rows_of(*range(i, i + 1 + i % 4)) for i in range(200)]

        answers = await asyncio.gather(*(batcher.evaluate(rows, "value") for rows in requests))

        for rows, answer in zip(requests, answers, strict=True):
            np.testing.assert_array_equal(answer, 2 * rows)
        assert len(engine.calls) < 100
        assert sum(n_rows for n_rows, _ in engine.calls) == sum(map(len, requests))

    running(test)


def test_alone_request_is_evaluated_before_anything_else_happens_on_the_event_loop() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, CHEAP)
        turns: list[int] = []

        async def count() -> None:
            for turn in range(20):
                turns.append(turn)
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await batcher.evaluate(rows_of(1), "value")

        assert len(turns) <= 3
        assert engine.threads == {threading.current_thread().name}
        await counting

    running(test)


@pytest.mark.parametrize("is_alone", [True, False])
def test_the_only_request_there_is_is_evaluated_without_a_turn_of_the_event_loop(is_alone: bool) -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, CHEAP, is_alone=lambda: is_alone)

        evaluating = asyncio.ensure_future(batcher.evaluate(rows_of(1, 2), "value"))
        await asyncio.sleep(0)

        assert is_alone == evaluating.done()
        assert (await evaluating)[:, 0].tolist() == [2, 4]
        assert engine.calls == [(2, "value")]

    running(test)


def test_a_request_that_is_alone_does_not_pass_what_waits() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, CHEAP, is_alone=lambda: True)
        n_rows = batcher.most_rows + 1
        waiting = asyncio.ensure_future(batcher.evaluate(np.zeros((n_rows, 1), np.float32), "value"))
        await asyncio.sleep(0)
        assert engine.calls == []

        await batcher.evaluate(rows_of(1), "value")

        assert 1 < engine.calls[0][0] <= batcher.most_rows
        assert n_rows == len(await waiting)

    running(test)


@pytest.mark.parametrize("n_rows", [1, PADDED_ROWS, 70])
def test_the_only_request_there_is_has_padded_calls_of_one_size_too(n_rows: int) -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, CHEAP, pad=True, is_alone=lambda: True)

        answer = await batcher.evaluate(rows_of(*range(n_rows)), "value")

        np.testing.assert_array_equal(answer, 2 * rows_of(*range(n_rows)))
        assert {size for size, _ in engine.calls} == {PADDED_ROWS}

    running(test)


def test_what_arrives_while_a_call_runs_goes_together_in_the_next() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR)
        engine.gate.clear()
        first = asyncio.create_task(batcher.evaluate(rows_of(1), "value"))
        while not engine.calls:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.evaluate(rows_of(i), "value")) for i in range(2, 7)]
        await asyncio.sleep(0.01)

        engine.gate.set()
        answers = await asyncio.gather(first, *others)

        assert [n_rows for n_rows, _ in engine.calls] == [1, 5]
        assert [float(answer[0, 0]) for answer in answers] == [2, 4, 6, 8, 10, 12]

    running(test)


def test_outputs_of_two_kinds_are_never_asked_in_one_call() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, CHEAP)

        values, logits, more = await asyncio.gather(
            batcher.evaluate(rows_of(1), "value"),
            batcher.evaluate(rows_of(1), "logit"),
            batcher.evaluate(rows_of(2), "value"),
        )

        assert (float(values[0, 0]), float(logits[0, 0]), float(more[0, 0])) == (2, 3, 4)
        assert {output for _, output in engine.calls} == {"value", "logit"}

    running(test)


def test_many_rows_go_in_several_calls_and_let_others_pass() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR)
        engine.gate.clear()
        large = asyncio.create_task(batcher.evaluate(rows_of(*range(40)), "value"))
        while not engine.calls:
            await asyncio.sleep(0.001)

        small = asyncio.create_task(batcher.evaluate(rows_of(100), "value"))
        await asyncio.sleep(0)
        engine.gate.set()

        assert 200 == float((await small)[0, 0])
        assert not large.done()
        np.testing.assert_array_equal(await large, 2 * rows_of(*range(40)))
        assert max(n_rows for n_rows, _ in engine.calls) <= batcher.most_rows == 8

    running(test)


def test_full_queue_is_refused_at_once_and_nothing_that_waits_is_lost() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR, max_waiting_rows=3)
        engine.gate.clear()
        accepted = [asyncio.create_task(batcher.evaluate(rows_of(0), "value"))]
        while not engine.calls:
            await asyncio.sleep(0.001)
        accepted += [asyncio.create_task(batcher.evaluate(rows_of(i), "value")) for i in range(1, 4)]
        await asyncio.sleep(0.01)

        refused = await asyncio.gather(
            *(batcher.evaluate(rows_of(9), "value") for _ in range(5)), return_exceptions=True
        )
        engine.gate.set()

        assert all(isinstance(error, TooManyRowsWaiting) for error in refused)
        assert "rows are waiting" in str(refused[0])
        answers = await asyncio.gather(*accepted)
        assert [float(answer[0, 0]) for answer in answers] == [0, 2, 4, 6]
        assert batcher.waiting_rows == 0

    running(test)


def test_rows_of_later_calls_wait_too_and_are_refused_before_any_is_computed() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR, max_waiting_rows=50)
        engine.gate.clear()
        large = [asyncio.create_task(batcher.evaluate(rows_of(*range(40)), "value")) for _ in range(2)]
        while not engine.calls:
            await asyncio.sleep(0.001)

        waiting, is_refused_at_once = batcher.waiting_rows, large[1].done()
        engine.gate.set()
        first, refused = await asyncio.gather(*large, return_exceptions=True)

        assert 40 - batcher.most_rows == waiting
        assert is_refused_at_once
        assert isinstance(refused, TooManyRowsWaiting)
        np.testing.assert_array_equal(first, 2 * rows_of(*range(40)))
        assert 40 == sum(n_rows for n_rows, _ in engine.calls)
        assert batcher.waiting_rows == 0

    running(test)


def test_rows_of_a_job_wait_a_few_at_a_time_and_for_a_place_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patient, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(patient, "ATTEMPTS", 1000)

    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR, max_waiting_rows=40)
        served: Any = SimpleNamespace(evaluate_anew=batcher.evaluate, signature=SimpleNamespace(outputs=("value",)))
        unused: Any = None
        engine.gate.clear()
        requests = [asyncio.create_task(batcher.evaluate(rows_of(*range(8)), "value"))]
        while not engine.calls:
            await asyncio.sleep(0.001)

        requests += [asyncio.create_task(batcher.evaluate(rows_of(*range(8)), "value")) for _ in range(2)]
        await asyncio.sleep(0)
        rows = rows_of(*range(100))
        job = asyncio.create_task(patient.PatientExplainer(unused, unused, unused).predict(served, rows))
        await asyncio.sleep(0.05)
        waiting = batcher.waiting_rows
        engine.gate.set()

        assert 16 == waiting
        np.testing.assert_array_equal(await job, 2 * rows)
        await asyncio.gather(*requests)

    running(test)


@pytest.mark.parametrize("turn", ["queued", "being computed"])
def test_a_large_request_that_is_given_up_or_fails_leaves_nothing_that_waits(turn: str) -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR)
        engine.gate.clear()
        first = asyncio.create_task(batcher.evaluate(rows_of(1), "value"))
        while not engine.calls:
            await asyncio.sleep(0.001)
        large = asyncio.create_task(batcher.evaluate(rows_of(*range(40)), "value"))
        await asyncio.sleep(0.01)
        if turn == "being computed":
            engine.gate.set()
            await first
            engine.gate.clear()
            await asyncio.sleep(0.01)

        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        left = batcher.waiting_rows
        engine.gate.set()
        await first

        assert left == 0
        with pytest.raises(ValueError, match="cannot take"):
            await batcher.evaluate(rows_of(*range(20), -1, *range(19)), "value")
        assert batcher.waiting_rows == 0

    running(test)


def test_of_a_call_that_failed_whoever_is_gone_is_not_tried_again() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR)
        engine.gate.clear()
        tasks = [asyncio.create_task(batcher.evaluate(rows_of(value), "value")) for value in (1, -1, 3)]
        while not engine.calls:
            await asyncio.sleep(0.001)

        tasks[1].cancel()
        await asyncio.sleep(0.01)
        engine.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)

        assert [float(answers[i][0, 0]) for i in (0, 2)] == [2, 6]
        assert [n_rows for n_rows, _ in engine.calls] == [3, 1, 1]

    running(test)


def test_given_up_request_frees_its_place_and_is_never_computed() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, DEAR, max_waiting_rows=1)
        engine.gate.clear()
        running_one = asyncio.create_task(batcher.evaluate(rows_of(1), "value"))
        while not engine.calls:
            await asyncio.sleep(0.001)
        given_up = asyncio.create_task(batcher.evaluate(rows_of(2), "value"))
        await asyncio.sleep(0.01)

        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        waiting = asyncio.create_task(batcher.evaluate(rows_of(3), "value"))
        await asyncio.sleep(0.01)
        engine.gate.set()

        assert float((await waiting)[0, 0]) == 6
        assert float((await running_one)[0, 0]) == 2
        assert sum(n_rows for n_rows, _ in engine.calls) == 2

    running(test)


@pytest.mark.parametrize("price", [CHEAP, DEAR], ids=["on the event loop", "in threads"])
def test_row_that_an_engine_cannot_take_fails_its_own_request_alone(price: Cost) -> None:
    async def test() -> None:
        batcher = batcher_of(Doubler(), price)

        answers = await asyncio.gather(
            *(batcher.evaluate(rows_of(value), "value") for value in (1, -1, 3)), return_exceptions=True
        )

        assert isinstance(answers[1], ValueError)
        assert [float(answers[i][0, 0]) for i in (0, 2)] == [2, 6]

    running(test)


@pytest.mark.parametrize("price", [CHEAP, DEAR], ids=["on the event loop", "in threads"])
def test_padded_calls_have_one_size_and_answer_no_more_than_was_asked(price: Cost) -> None:
    async def test() -> None:
        engine = Doubler()
        noted: list[tuple[str, int]] = []
        batcher = batcher_of(engine, price, pad=True, note=lambda name, n_rows: noted.append((name, n_rows)))

        few, many = await asyncio.gather(
            batcher.evaluate(rows_of(1, 2, 3), "value"), batcher.evaluate(rows_of(*range(70)), "value")
        )

        assert few[:, 0].tolist() == [2, 4, 6]
        np.testing.assert_array_equal(many, 2 * rows_of(*range(70)))
        assert {n_rows for n_rows, _ in engine.calls} == {PADDED_ROWS}
        assert noted == [("doubler", PADDED_ROWS)] * len(engine.calls)

    running(test)


def test_engine_whose_price_is_not_known_never_runs_on_the_event_loop() -> None:
    async def test() -> None:
        engine = Doubler()
        batcher = batcher_of(engine, None)

        answer = await batcher.evaluate(rows_of(4), "value")

        assert float(answer[0, 0]) == 8
        assert threading.current_thread().name not in engine.threads
        assert not batcher.answers_at_once(1)

    running(test)
