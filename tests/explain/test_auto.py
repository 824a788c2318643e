"""Which method explains a row."""

import pytest

from explain.auto import Situation, choose_method
from explain.errors import BudgetTooSmall, MethodDoesNotFit
from explain.exact import MAX_PLAYERS

TOO_MANY = MAX_PLAYERS + 1


def situation(
    *,
    n_differing: int = 10,
    exact_evaluations: float = 1000,
    row_ms: float = 0.01,
    deadline_ms: float = 1000,
    budget: int | None = None,
) -> Situation:
    return Situation(n_differing, exact_evaluations, row_ms, deadline_ms, budget)


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
            situation(n_differing=TOO_MANY, exact_evaluations=2.0**TOO_MANY, row_ms=1e-9),
            "expected-gradients",
            id="auto leaves exact beyond the most players",
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
        pytest.param("lime", situation(), ("auto", "exact", "expected-gradients"), id="unknown method"),
        pytest.param("Exact", situation(), ("auto", "exact", "expected-gradients"), id="wrong spelling"),
        pytest.param(
            "exact", situation(n_differing=TOO_MANY), ("auto", "expected-gradients"), id="exact with too many players"
        ),
        pytest.param(
            "lime", situation(n_differing=TOO_MANY), ("auto", "expected-gradients"), id="unknown, too many players"
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
