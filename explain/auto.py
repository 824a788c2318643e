"""Which method explains a row: a pure function of what is known before anything is evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from explain import exact, regression
from explain.errors import BudgetTooSmall, MethodDoesNotFit

METHODS = ("auto", "exact", "kernel", "expected-gradients")
GRADIENT_METHODS = frozenset({"expected-gradients"})
"""The methods that need a gradient of the model; the others only evaluate it."""
MAX_PLAYERS = {"exact": exact.MAX_PLAYERS, "kernel": regression.MAX_PLAYERS}
KERNEL_PLAYERS = 48
"""Beyond, `auto` prefers gradients: one gives the slopes of all players, where a coalition tells little of each."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the choice depends on.

    Attributes:
        n_differing: the most players that differ between the row and any background row.
        exact_evaluations: rows that `exact` would evaluate.
        kernel_evaluations: rows that `kernel` is expected to evaluate until the tolerance is reached.
        row_ms: the measured price of one row in a large slice of the engine.
        deadline_ms, budget: what the request allows.
    """

    n_differing: int
    exact_evaluations: float
    kernel_evaluations: float
    row_ms: float
    deadline_ms: float
    budget: int | None

    def affords(self, evaluations: float) -> bool:
        """Whether so many fit in half the deadline and in the budget."""
        in_time = evaluations * self.row_ms <= self.deadline_ms / 2
        return in_time and (self.budget is None or evaluations <= self.budget)


def choose_method(method: str, situation: Situation) -> str:
    """The method to run.

    `auto` takes `exact` where every coalition fits in half the deadline and in the budget; else `kernel` where what
    it is expected to need does, for at most 48 players; else expected gradients. A method that was named is taken as
    it is, or refused.

    Raises:
        MethodDoesNotFit: when the method is unknown or cannot explain this row.
        BudgetTooSmall: when `exact` was named and the budget does not cover every coalition.
    """
    fitting = [name for name in METHODS if situation.n_differing <= MAX_PLAYERS.get(name, situation.n_differing)]
    if method not in METHODS:
        raise MethodDoesNotFit(method, "there is no such method", fitting)
    if method not in fitting:
        reason = f"it takes at most {MAX_PLAYERS[method]} players, and {situation.n_differing} differ here"
        raise MethodDoesNotFit(method, reason, fitting)
    over_budget = situation.budget is not None and situation.exact_evaluations > situation.budget
    if method == "exact" and over_budget:
        raise BudgetTooSmall(method, int(situation.exact_evaluations), situation.budget or 0)
    if method != "auto":
        return method
    if "exact" in fitting and situation.affords(situation.exact_evaluations):
        return "exact"
    if situation.n_differing <= KERNEL_PLAYERS and situation.affords(situation.kernel_evaluations):
        return "kernel"
    return "expected-gradients"
