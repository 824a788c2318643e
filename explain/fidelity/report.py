"""What a check found, and what all of them say of a version: data for its gate and its card."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from explain.fidelity import evidence

Verdict = Literal["pass", "fail", "reported", "not-run"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        check: its name.
        verdict: `fail` only on evidence; `reported` for figures that are for people to judge; `not-run` where the check
            does not fit, and `words` say why.
        value: its figure; NaN where it was not run or the figure has no meaning there.
        words: what the figure is, and what it says here.
        interval: of 95 %, by bootstrap over rows; None where the figure is no mean over rows.
        p_value: how likely figures so bad are where explanations are right; None where nothing is left to chance.
        limit: the line that `value` is held against; None where it is only reported.
    """

    check: str
    verdict: Verdict
    value: float
    words: str
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Numbers that JSON does not have are null."""
        interval = None if self.interval is None else [_finite(end) for end in self.interval]
        return {
            "check": self.check,
            "verdict": self.verdict,
            "value": _finite(self.value),
            "interval": interval,
            "p_value": self.p_value,
            "limit": self.limit,
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class FidelityReport:
    """All checks of one explainer of one model.

    Attributes:
        evaluations: rows that the checks put through the network; what the explainer did with a gradient of its own is
            not counted.
    """

    method: str
    estimand: str
    n_rows: int
    seed: int
    evaluations: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(finding.verdict != "fail" for finding in self.findings)

    def of(self, check: str) -> Finding:
        """The finding of a check by its name."""
        return next(finding for finding in self.findings if finding.check == check)

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "method": self.method,
            "estimand": self.estimand,
            "rows": self.n_rows,
            "seed": self.seed,
            "evaluations": self.evaluations,
            "checks": [finding.to_json() for finding in self.findings],
        }


def reported(check: str, values: NDArray[np.float64], words: str, *, seed: int) -> Finding:
    """The mean over the rows in which the figure has a meaning, with no line to keep.

    Args:
        values: `(n_rows,)`, NaN where it has none.
    """
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return Finding(check, "reported", math.nan, f"{words}; it has no meaning in any of these rows")
    interval = evidence.bootstrap_interval(known, seed=seed)
    return Finding(check, "reported", float(known.mean()), words, interval)


def judged(check: str, values: NDArray[np.float64], p_value: float, words: str, *, limit: float, seed: int) -> Finding:
    """The mean over rows, which fails where the p-value is evidence."""
    verdict: Verdict = "fail" if p_value < evidence.P_LIMIT else "pass"
    interval = evidence.bootstrap_interval(values, seed=seed)
    return Finding(check, verdict, float(values.mean()), words, interval, p_value, limit)


def exactly(check: str, excess: float, words: str) -> Finding:
    """A law: the largest violation in units of what is allowed."""
    return Finding(check, "pass" if excess <= 1 else "fail", excess, words, limit=1.0)


def not_run(check: str, reason: str) -> Finding:
    return Finding(check, "not-run", math.nan, f"Not run: {reason}.")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
