"""Which method `auto` takes."""

from __future__ import annotations

from typing import Any

import pytest

from explain.auto import CHOICES, KERNEL_PLAYERS, Plan, Price, Situation, choose_plan
from explain.exact import MAX_PLAYERS
from explain.methods import METHODS
from explain.regression import LEAST_PAIRS, PAIRS_FOR_ERRORS, expected_cost

ROW = Price(row_ms=0.01)
DEAR = Price(row_ms=100.0)
FREE = Price(row_ms=0.0)
# 10 players over 100 background rows: 102,400 coalition rows for `exact`. At a tolerance of 0.05, `kernel` is expected
# to need 4 pairs of each player, 8,000 rows, and gradients 800.
EXACT, KERNEL, GRADIENTS = 102_400, 8_000, 800


def situation(**changes: Any) -> Situation:
    given: dict[str, Any] = {
        "kind": "columns",
        "n_players": 10,
        "n_background": 100,
        "n_targets": 1,
        "price": ROW,
        "gradient_price": ROW.times(3),
        "deadline_ms": 10_000,
        "tolerance": 0.05,
        "budget": None,
    }
    return Situation(**(given | changes))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(situation(), "exact", id="exact where it is affordable"),
        pytest.param(situation(deadline_ms=2 * 1024), "exact", id="exact when it fills half the deadline"),
        pytest.param(situation(deadline_ms=2 * 1023), "kernel", id="not exact when it takes more"),
        pytest.param(situation(budget=EXACT), "exact", id="exact when it fills the budget"),
        pytest.param(situation(budget=EXACT - 1), "kernel", id="not exact over the budget"),
        pytest.param(situation(n_players=MAX_PLAYERS, price=FREE), "exact", id="exact at the most players"),
        pytest.param(situation(n_players=MAX_PLAYERS + 1, price=FREE), "kernel", id="not exact beyond"),
        pytest.param(situation(deadline_ms=2 * 80), "kernel", id="kernel when it fills half the deadline"),
        pytest.param(
            situation(deadline_ms=2 * 79), "expected-gradients", id="gradients where kernel takes more, and they do not"
        ),
        pytest.param(situation(budget=KERNEL), "kernel", id="kernel when it fills the budget"),
        pytest.param(situation(budget=KERNEL - 1), "expected-gradients", id="not kernel over the budget"),
        pytest.param(
            situation(n_players=KERNEL_PLAYERS), "kernel", id="kernel at the most players for which it is preferred"
        ),
        pytest.param(situation(n_players=KERNEL_PLAYERS + 1), "expected-gradients", id="gradients beyond"),
        pytest.param(
            situation(tolerance=0.001, price=Price(0.001)),
            "exact",
            id="exact where kernel would need every coalition",
        ),
        pytest.param(situation(kind="image", n_players=64), "expected-gradients", id="gradients for the pixels"),
        pytest.param(situation(kind="series", n_players=300), "expected-gradients", id="gradients for a series"),
        pytest.param(
            situation(kind="text", n_players=300, deadline_ms=10),
            "kernel",
            id="kernel for text, which has no gradient, though the deadline will cut it",
        ),
        pytest.param(
            situation(n_players=60, gradient_price=None),
            "kernel",
            id="kernel for many players where no gradient is at hand",
        ),
        pytest.param(
            situation(deadline_ms=1),
            "expected-gradients",
            id="where nothing fits, the cheaper of the two that can be cut short",
        ),
        pytest.param(
            situation(deadline_ms=1, gradient_price=DEAR), "kernel", id="which may be kernel, if gradients are dear"
        ),
        pytest.param(
            situation(deadline_ms=1, gradient_price=DEAR, budget=2 * 100 * LEAST_PAIRS * 10 - 1),
            "expected-gradients",
            id="but not on a budget on which kernel gives nothing",
        ),
        pytest.param(situation(budget=1), "expected-gradients", id="a budget for nothing is refused by gradients"),
        pytest.param(
            situation(n_players=2000, price=FREE, gradient_price=DEAR),
            "expected-gradients",
            id="gradients for more players than a regression takes",
        ),
        pytest.param(
            situation(n_players=12, price=Price(row_ms=1e-5, call_ms=100)),
            "kernel",
            id="the price of a call counts, not only that of its rows",
        ),
        pytest.param(
            situation(n_players=15, n_targets=10, budget=8_000),
            "expected-gradients",
            id="gradients are paid for each target",
        ),
    ],
)
def test_the_plan_follows_from_the_situation(given: Situation, expected: str) -> None:
    plan = choose_plan(given)

    assert expected == plan.method


def test_a_plan_says_what_it_is_expected_to_take() -> None:
    exact = choose_plan(situation(price=Price(row_ms=0.01, call_ms=2.0)))
    kernel = choose_plan(situation(budget=KERNEL))
    gradients = choose_plan(situation(budget=KERNEL - 1, n_targets=2))

    # 25 slices of 4,096 rows at 2 ms each, and the rows.
    assert Plan("exact", EXACT, 1024 + 25 * 2, EXACT) == exact
    assert Plan("kernel", KERNEL, pytest.approx(80), 2 * 100 * LEAST_PAIRS * 10) == kernel
    assert Plan("expected-gradients", 2 * GRADIENTS, pytest.approx(48), 16) == gradients


def test_auto_chooses_only_among_methods_that_promise_to_add_up() -> None:
    assert {"shapley", "aumann-shapley"} == {METHODS[choice].estimand for choice in CHOICES}


def test_kernel_is_expected_to_cost_pairs_in_proportion_to_the_players_and_to_the_inverse_square_of_the_tolerance() -> (
    None
):
    costs = [expected_cost(30, 100, tolerance) for tolerance in (0.01, 0.005)] + [expected_cost(40, 100, 0.01)]

    assert [13 * 30 * 200, 52 * 30 * 200, 13 * 40 * 200] == pytest.approx(costs)


def test_kernel_is_expected_to_cost_at_least_what_errors_need_and_at_most_all_coalitions() -> None:
    loose, all_of_them, endless = (
        expected_cost(30, 100, 1.0),
        expected_cost(6, 100, 0.001),
        expected_cost(5000, 100, 0.01),
    )

    assert PAIRS_FOR_ERRORS * 30 * 200 == loose
    assert (2**6 - 2) * 100 == all_of_them
    assert 13 * 5000 * 200 == pytest.approx(endless)
