"""When an anytime estimator stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from explain.attribution import StopReason


@dataclass(frozen=True, slots=True)
class Limits:
    """When an anytime estimator stops.

    Attributes:
        tolerance: the largest 95 % half-width wanted, as a part of S.
        budget: the most rows that may be put through the network.
        may_go_on: asked before each round with the rows it would evaluate; False at the deadline.
        evaluations: of a run to replay: it ends after as many, and neither tolerance nor `may_go_on` ends it. Its
            budget is that of the run it replays, since what is drawn can depend on the budget.
    """

    tolerance: float
    budget: int | None = None
    may_go_on: Callable[[int], bool] = lambda _: True
    evaluations: int | None = None

    def stop_reason(self, *, within: bool, evaluations: int, next_round: int) -> StopReason | None:
        """Why a run ends here, or None when it goes on.

        Args:
            within: whether the tolerance is reached.
            evaluations: so far.
            next_round: what the next round would add.
        """
        if self.evaluations is not None and evaluations < self.evaluations:
            return None
        if within:
            return "tolerance"
        if self.budget is not None and evaluations + next_round > self.budget:
            return "budget"
        if self.evaluations is not None:
            return "deadline"
        return None if self.may_go_on(next_round) else "deadline"
