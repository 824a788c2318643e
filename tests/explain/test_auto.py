"""Which method explains a row."""

import pytest

from explain import regression
from explain.auto import KERNEL_PLAYERS, METHODS, Situation, choose_method
from explain.errors import BudgetTooSmall, MethodDoesNotFit
from explain.exact import MAX_PLAYERS
from explain.regression import PAIRS_FOR_ERRORS, expected_cost

TOO_MANY = MAX_PLAYERS + 1


def situation(
    *,
    n_differing: int = 10,
    exact_evaluations: float = 1000,
    kernel_evaluations: float = 1e9,
    row_ms: float = 0.01,
    deadline_ms: float = 1000,
    budget: int | None = None,
) -> Situation:
    return Situation(n_differing, exact_evaluations, kernel_evaluations, row_ms, deadline_ms, budget)


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        pytest.param("auto", situation(), "exact", id="auto takes exact where it is affordable"),
        pytest.param(
            "auto",
            situation(exact_evaluations=50_000, row_ms=0.01, deadline_ms=1000),
            "exact",
            id="auto takes exact when it fills half the deadline",
        ),
        pytest.param(
            "auto",
            situation(exact_evaluations=50_001, row_ms=0.01, deadline_ms=1000),
            "expected-gradients",
            id="auto leaves exact when it takes more than half the deadline",
        ),
        pytest.param("auto", situation(budget=1000), "exact", id="auto takes exact when it fills the budget"),
        pytest.param("auto", situation(budget=999), "expected-gradients", id="auto leaves exact over the budget"),
        pytest.param(
            "auto",
            situation(n_differing=MAX_PLAYERS, exact_evaluations=2.0**MAX_PLAYERS, row_ms=1e-6),
            "exact",
            id="auto takes exact at the most players",
        ),
        pytest.param(
            "auto",
            situation(n_differing=TOO_MANY, exact_evaluations=1, kernel_evaluations=1),
            "kernel",
            id="auto leaves exact beyond the most players",
        ),
        pytest.param(
            "auto",
            situation(exact_evaluations=50_001, kernel_evaluations=50_000, row_ms=0.01, deadline_ms=1000),
            "kernel",
            id="auto takes kernel when it fills half the deadline",
        ),
        pytest.param(
            "auto",
            situation(exact_evaluations=50_001, kernel_evaluations=50_001, row_ms=0.01, deadline_ms=1000),
            "expected-gradients",
            id="auto leaves kernel when it takes more than half the deadline",
        ),
        pytest.param(
            "auto",
            situation(exact_evaluations=1000, kernel_evaluations=999, budget=999),
            "kernel",
            id="auto takes kernel when it fills the budget",
        ),
        pytest.param(
            "auto",
            situation(exact_evaluations=1000, kernel_evaluations=999, budget=998),
            "expected-gradients",
            id="auto leaves kernel over the budget",
        ),
        pytest.param(
            "auto",
            situation(exact_evaluations=1000, kernel_evaluations=10),
            "exact",
            id="auto takes exact where it is affordable, however cheap kernel is",
        ),
        pytest.param(
            "auto",
            situation(n_differing=KERNEL_PLAYERS, exact_evaluations=2.0**KERNEL_PLAYERS, kernel_evaluations=10),
            "kernel",
            id="auto takes kernel at the most players for which it is preferred",
        ),
        pytest.param(
            "auto",
            situation(n_differing=KERNEL_PLAYERS + 1, exact_evaluations=2.0**KERNEL_PLAYERS, kernel_evaluations=10),
            "expected-gradients",
            id="auto prefers gradients beyond",
        ),
        pytest.param(
            "kernel",
            situation(n_differing=regression.MAX_PLAYERS, kernel_evaluations=1e12, deadline_ms=1),
            "kernel",
            id="kernel by name is taken whatever the deadline",
        ),
        pytest.param(
            "exact",
            situation(exact_evaluations=1e6, row_ms=1, deadline_ms=1),
            "exact",
            id="exact by name is taken whatever the deadline",
        ),
        pytest.param("exact", situation(budget=1000), "exact", id="exact by name is taken when it fills the budget"),
        pytest.param("expected-gradients", situation(), "expected-gradients", id="a name is taken as it is"),
        pytest.param(
            "expected-gradients",
            situation(n_differing=TOO_MANY, exact_evaluations=2.0**TOO_MANY),
            "expected-gradients",
            id="expected gradients take any number of players",
        ),
    ],
)
def test_method_follows_from_the_situation(method: str, given: Situation, expected: str) -> None:
    chosen = choose_method(method, given)

    assert expected == chosen


@pytest.mark.parametrize(
    ("method", "given", "fitting"),
    [
        pytest.param("lime", situation(), METHODS, id="unknown method"),
        pytest.param("Exact", situation(), METHODS, id="wrong spelling"),
        pytest.param(
            "exact",
            situation(n_differing=TOO_MANY),
            ("auto", "kernel", "expected-gradients"),
            id="exact with too many players",
        ),
        pytest.param(
            "lime",
            situation(n_differing=TOO_MANY),
            ("auto", "kernel", "expected-gradients"),
            id="unknown, too many players",
        ),
        pytest.param(
            "kernel",
            situation(n_differing=regression.MAX_PLAYERS + 1),
            ("auto", "expected-gradients"),
            id="kernel with too many players",
        ),
    ],
)
def test_refusal_names_the_methods_that_fit(method: str, given: Situation, fitting: tuple[str, ...]) -> None:
    with pytest.raises(MethodDoesNotFit) as refusal:
        choose_method(method, given)

    assert fitting == refusal.value.fitting
    assert f"Methods that fit: {', '.join(fitting)}." in str(refusal.value)
    assert repr(method) in str(refusal.value)


def test_exact_by_name_is_refused_over_the_budget_naming_what_it_needs() -> None:
    with pytest.raises(BudgetTooSmall, match="at least 1000 evaluations here; received 999") as refusal:
        choose_method("exact", situation(exact_evaluations=1000, budget=999))

    assert refusal.value.needed == 1000


def test_kernel_is_expected_to_cost_pairs_in_proportion_to_the_players_and_to_the_inverse_square_of_the_tolerance() -> (
    None
):
    costs = [expected_cost(30, 100, tolerance) for tolerance in (0.01, 0.005)] + [expected_cost(40, 100, 0.01)]

    assert [75 * 30 * 200, 300 * 30 * 200, 75 * 40 * 200] == pytest.approx(costs)


def test_kernel_is_expected_to_cost_at_least_what_errors_need_and_at_most_all_coalitions() -> None:
    loose, all_of_them, endless = (
        expected_cost(30, 100, 1.0),
        expected_cost(6, 100, 0.001),
        expected_cost(5000, 100, 0.01),
    )

    assert PAIRS_FOR_ERRORS * 30 * 200 == loose
    assert (2**6 - 2) * 100 == all_of_them
    assert 75 * 5000 * 200 == pytest.approx(endless)
