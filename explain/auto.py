"""Which method explains a row: a pure function of what is known before anything is evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from explain.errors import BudgetTooSmall, MethodDoesNotFit
from explain.exact import MAX_PLAYERS

METHODS = ("auto", "exact", "expected-gradients")


@dataclass(frozen=True, slots=True)
class Situation:
    """What the choice depends on.

    Attributes:
        n_differing: the most players that differ between the row and any background row.
        exact_evaluations: rows that `exact` would evaluate.
        row_ms: the measured price of one row in a large slice of the engine.
        deadline_ms, budget: what the request allows.
    """

    n_differing: int
    exact_evaluations: float
    row_ms: float
    deadline_ms: float
    budget: int | None


def choose_method(method: str, situation: Situation) -> str:
    """The method to run.

    `auto` takes `exact` where every coalition fits in half the deadline and in the budget, and expected gradients
    elsewhere. A method that was named is taken as it is, or refused.

    Raises:
        MethodDoesNotFit: when the method is unknown or cannot explain this row.
        BudgetTooSmall: when `exact` was named and the budget does not cover every coalition.
    """
    fitting = [name for name in METHODS if name != "exact" or situation.n_differing <= MAX_PLAYERS]
    if method not in METHODS:
        raise MethodDoesNotFit(method, "there is no such method", fitting)
    if method not in fitting:
        reason = f"{situation.n_differing} players make 2^{situation.n_differing} coalitions; it takes {MAX_PLAYERS}"
        raise MethodDoesNotFit(method, reason, fitting)
    over_budget = situation.budget is not None and situation.exact_evaluations > situation.budget
    if method == "exact" and over_budget:
        raise BudgetTooSmall(method, int(situation.exact_evaluations), situation.budget or 0)
    if method != "auto":
        return method
    affordable = situation.exact_evaluations * situation.row_ms <= situation.deadline_ms / 2
    return "exact" if "exact" in fitting and affordable and not over_budget else "expected-gradients"
