"""What calls are expected to cost, as they go on being measured."""

from __future__ import annotations

import numpy as np
import pytest

from models.rows import ModelInput
from service.serving.prices import BOUND, LearnedPrice, MeteredEngine

CALL_MS, ROW_MS, SLICE_ROWS = 0.5, 0.01, 4096


def true_ms(n_rows: int, factor: float = 1.0) -> float:
    return factor * (CALL_MS + ROW_MS * n_rows)


def measured_at_start() -> LearnedPrice:
    return LearnedPrice(true_ms(1), true_ms(SLICE_ROWS), SLICE_ROWS)


def test_the_first_price_is_the_line_through_what_was_measured_at_the_start() -> None:
    price = measured_at_start().now

    assert (ROW_MS, CALL_MS) == pytest.approx((price.row_ms, price.call_ms))
    assert 10 * true_ms(SLICE_ROWS) == pytest.approx(price.of(10 * SLICE_ROWS))


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_the_price_follows_a_machine_that_has_become_slower_or_faster(factor: float) -> None:
    price = measured_at_start()

    for _ in range(60):
        price.learn(SLICE_ROWS, true_ms(SLICE_ROWS, factor))
        price.learn(100, true_ms(100, factor))

    assert true_ms(SLICE_ROWS, factor) == pytest.approx(price.now.of(SLICE_ROWS), rel=0.05)
    assert true_ms(100, factor) == pytest.approx(price.now.of(100), rel=0.1)


def test_calls_of_one_size_alone_leave_the_price_of_another_where_it_was() -> None:
    price = measured_at_start()

    for _ in range(200):
        price.learn(SLICE_ROWS, true_ms(SLICE_ROWS, 2))

    assert true_ms(SLICE_ROWS, 2) == pytest.approx(price.now.of(SLICE_ROWS), rel=0.05)
    assert true_ms(1) == pytest.approx(price.now.of(1), rel=0.1)


def test_one_call_that_the_machine_interrupted_moves_the_price_little() -> None:
    price = measured_at_start()
    for _ in range(30):
        price.learn(SLICE_ROWS, true_ms(SLICE_ROWS))

    price.learn(SLICE_ROWS, true_ms(SLICE_ROWS, 1000))

    assert price.now.of(SLICE_ROWS) < true_ms(SLICE_ROWS, BOUND / 2)


def test_a_price_is_never_negative_and_may_come_from_one_size_of_call() -> None:
    shrinking = LearnedPrice(5.0, 1.0, SLICE_ROWS).now
    single = LearnedPrice(2.0, 2.0, 1).now

    assert min(shrinking.row_ms, shrinking.call_ms) >= 0
    assert 6.0 == pytest.approx(single.of(3))


def test_an_engine_is_measured_at_each_call() -> None:
    class Engine:
        name = "test"

        def evaluate(self, rows: ModelInput, output: str) -> np.ndarray:
            return rows * len(output)

    price = LearnedPrice(1e3, 1e6, SLICE_ROWS)
    engine = MeteredEngine(Engine(), price)

    outputs = engine.evaluate(np.ones((2, 1), np.float32), "value")

    assert [[5.0], [5.0]] == outputs.tolist()
    assert price.now.of(2) < 1e3
