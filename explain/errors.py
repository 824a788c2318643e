"""What can be wrong with a request for an explanation, one class per fact."""

from __future__ import annotations

import math
from collections.abc import Sequence


class ExplanationError(Exception):
    """A fact that a user can act on. `str()` of it is a full sentence."""


class MethodDoesNotFit(ExplanationError):
    """The method cannot explain this row of this model; `fitting` are those that can."""

    def __init__(self, method: str, reason: str, fitting: Sequence[str]) -> None:
        super().__init__(f"Method {method!r} does not fit: {reason}. Methods that fit: {', '.join(fitting)}.")
        self.method, self.fitting = method, tuple(fitting)


class BudgetTooSmall(ExplanationError):
    """The budget does not cover the least that the method needs."""

    def __init__(self, method: str, needed: int, budget: int) -> None:
        super().__init__(f"Method {method!r} needs a budget of at least {needed} evaluations here; received {budget}.")
        self.needed = needed


class ToleranceNotReached(ExplanationError):
    """A strict request that stopped before its tolerance was reached; `reached` is NaN where no error is stated."""

    def __init__(self, tolerance: float, reached: float, stop_reason: str) -> None:
        found = f"with a largest error of {reached:.3g} of the explanation's scale, above the"
        if math.isnan(reached):
            found = "with too few evaluations to state an error, before the"
        super().__init__(
            f"Stopped at the {stop_reason} {found} tolerance of {tolerance:g}. Allow a longer deadline_ms, "
            "a larger budget or tolerance, or strict: false."
        )


class NotDifferentiable(ExplanationError):
    """The model has no gradient that an explanation could use."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(f"Gradients of this model cannot be taken: {reason}. {cure}")
        self.reason = reason


class GradientNotFinite(ExplanationError):
    """The gradient of an output is NaN or infinite at points that an explanation needs."""

    def __init__(self, target: int, n_elements: int, of_elements: int) -> None:
        super().__init__(
            f"The gradient of output {target} is not finite for {n_elements} of {of_elements} inputs, near the row or "
            "between it and the background: the network overflows or divides by zero there, or takes a root or a "
            "logarithm of 0. Use a method that takes no gradients (exact, kernel, permutation), or another output."
        )
        self.target = target
