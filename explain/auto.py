"""Which method `auto` takes: a pure function of what is known before anything is evaluated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from explain.exact import coalition_count
from explain.methods import METHODS, Kind
from explain.regression import LEAST_PAIRS, expected_cost

KERNEL_PLAYERS = 48
"""Beyond, `auto` prefers gradients: one gives the slopes of all players, where a coalition tells little of each."""

Choice = Literal["exact", "kernel", "expected-gradients"]
CHOICES: tuple[Choice, ...] = ("exact", "kernel", "expected-gradients")
"""What `auto` chooses from, in its order of preference. Never saliency, never the reference."""

GRADIENT_REPLICATES = 8
POSITIONS_TIMES_TOLERANCE = 0.02
"""Positions on each path that expected gradients take for a tolerance, times it: 2 at 0.01 on the demo digits."""


@dataclass(frozen=True, slots=True)
class Price:
    """What calls cost: `call_ms` each, and `row_ms` for each of their rows."""

    row_ms: float
    call_ms: float = 0.0
    slice_rows: int = 4096

    def times(self, factor: float) -> Price:
        return Price(self.row_ms * factor, self.call_ms * factor, self.slice_rows)

    def of(self, n_rows: float) -> float:
        """Milliseconds for so many rows, in slices."""
        return n_rows * self.row_ms + math.ceil(min(n_rows / self.slice_rows, 1e300)) * self.call_ms


@dataclass(frozen=True, slots=True)
class Situation:
    """What the choice depends on.

    Attributes:
        kind: what the model takes.
        n_players: as many as can differ between a row and the background.
        n_background: rows that a coalition is evaluated on.
        n_targets: asked of each row. They share coalitions, but not gradients.
        price, gradient_price: measured, of an evaluation and of a gradient; None where no gradient is at hand.
        deadline_ms, tolerance, budget: what the request allows for one row.
    """

    kind: Kind
    n_players: int
    n_background: int
    n_targets: int
    price: Price
    gradient_price: Price | None
    deadline_ms: float
    tolerance: float
    budget: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A method, and what it is expected to take for one row.

    Attributes:
        least: evaluations below which it gives nothing.
    """

    method: Choice
    evaluations: float
    milliseconds: float
    least: float


def choose_plan(situation: Situation) -> Plan:
    """The method that explains a row best for what may be spent.

    `exact` where every coalition fits in half the deadline and in the budget; else `kernel` where what it is expected
    to need does, for at most 48 players; else expected gradients. Where not even they fit, the cheaper of the two that
    can be cut short is: it stops at the deadline or the budget, and states the errors it has then. Without a gradient
    that is `kernel`.
    """
    plans = [plan for choice in CHOICES if (plan := _plan(choice, situation)) is not None]
    for plan in plans:
        preferred = plan.method != "kernel" or situation.n_players <= KERNEL_PLAYERS
        if preferred and _affords(situation, plan):
            return plan
    unfinished = [plan for plan in plans if plan.method != "exact"]
    begun = [plan for plan in unfinished if situation.budget is None or plan.least <= situation.budget]
    return min(begun or unfinished, key=lambda plan: plan.milliseconds)


def _plan(choice: Choice, situation: Situation) -> Plan | None:
    """What a method would take; None where it does not fit."""
    method = METHODS[choice]
    if situation.kind not in method.kinds or not method.takes(situation.n_players):
        return None
    if choice == "expected-gradients":
        if situation.gradient_price is None:
            return None
        evaluations = expected_gradients_cost(situation.n_background, situation.n_targets, situation.tolerance)
        least = GRADIENT_REPLICATES * situation.n_targets
        return Plan(choice, evaluations, situation.gradient_price.of(evaluations), least)
    all_coalitions = coalition_count(situation.n_players) * situation.n_background
    if choice == "exact":
        return Plan(choice, all_coalitions, situation.price.of(all_coalitions), all_coalitions)
    evaluations = expected_cost(situation.n_players, situation.n_background, situation.tolerance)
    least = min(2.0 * situation.n_background * LEAST_PAIRS * situation.n_players, all_coalitions)
    return Plan(choice, evaluations, situation.price.of(evaluations), least)


def _affords(situation: Situation, plan: Plan) -> bool:
    in_time = plan.milliseconds <= situation.deadline_ms / 2
    return in_time and (situation.budget is None or plan.evaluations <= situation.budget)


def expected_gradients_cost(n_background: int, n_targets: int, tolerance: float) -> float:
    """Gradients that the method can be expected to take until its largest half-width is `tolerance` x S."""
    positions = 2.0 ** math.ceil(math.log2(max(1.0, POSITIONS_TIMES_TOLERANCE / tolerance)))
    return GRADIENT_REPLICATES * n_background * n_targets * positions
