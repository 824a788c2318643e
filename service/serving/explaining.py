"""Explains rows of one version: the part that is the same in the API process and in the compute process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic

import numpy as np

from explain.attribution import Estimate
from explain.auto import Situation, choose_method
from explain.errors import ToleranceNotReached
from explain.exact import coalition_count, exact, exact_cost
from explain.game import Background, Game
from explain.gradients import Gradient, expected_gradients
from explain.limits import Limits
from explain.players import feature_players, pixel_players
from explain.regression import expected_cost, kernel
from models.artifact import Artifact
from models.rows import ModelInput
from service.serving.engine import SLICE_ROWS, Engine


@dataclass(frozen=True, slots=True)
class ExplanationOrder:
    """What is asked of an explanation, with everything resolved.

    Attributes:
        targets: per row, the indices of the targets to explain.
        method: "auto", or a method by name.
        deadline_ms: what is left of it when the work is handed over, for all rows together.
        evaluations: of a run to replay, per row: each row runs exactly as many, whatever the clock and the tolerance
            say, with the seed, the budget and the method (never "auto") of that run.
    """

    targets: tuple[tuple[int, ...], ...]
    output: str
    method: str
    tolerance: float
    deadline_ms: float
    budget: int | None
    strict: bool
    seed: int
    evaluations: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What the API process must know of a version that is loaded in the compute process."""

    device: str
    gradient_slice_rows: int


class ExplainedVersion:
    """A version with what its explanations need: its engine, background and players."""

    def __init__(self, artifact: Artifact, engine: Engine, row_ms: float) -> None:
        self.engine, self.row_ms = engine, row_ms
        signature = artifact.signature
        rows, weights = artifact.background
        self.players = pixel_players(rows.shape[1:]) if signature.image else feature_players(rows.shape[1])
        self._backgrounds = {
            output: Background.of(rows, partial(engine.evaluate, output=output), weights)
            for output in signature.outputs
        }

    def game(self, row: ModelInput, output: str) -> Game:
        return Game(partial(self.engine.evaluate, output=output), row, self._backgrounds[output], self.players)

    def plan(self, rows: ModelInput, order: ExplanationOrder) -> tuple[str, float]:
        """The method for a request, and its price in milliseconds where it is known before (`exact`), else infinity.

        `auto` goes by what a row of this version costs at most and by its share of the deadline, so that one row's
        method does not depend on what the others are.
        """
        games = [self.game(row, order.output) for row in rows]
        costs = [exact_cost(game) for game in games]
        n_differing, cost = max(int(game.differing.sum(axis=1).max()) for game in games), max(costs)
        n_background = len(games[0].background.rows)
        if order.method == "auto":
            n_differing = games[0].n_players
            cost = coalition_count(n_differing) * n_background
        elif order.method == "kernel":
            n_differing = max(len(game.playing) for game in games)
        situation = Situation(
            n_differing=n_differing,
            exact_evaluations=cost,
            kernel_evaluations=expected_cost(n_differing, n_background, order.tolerance),
            row_ms=self.row_ms,
            deadline_ms=order.deadline_ms / len(rows),
            budget=order.budget,
        )
        method = choose_method(order.method, situation)
        return method, sum(costs) * self.row_ms if method == "exact" else math.inf

    def explain(
        self, rows: ModelInput, order: ExplanationOrder, gradient: Callable[[], Gradient] | None
    ) -> list[Estimate]:
        """Explains each row on its own; what is left of the deadline is shared evenly by the rows still to do.

        Args:
            gradient: gives the compiled gradient of the asked output; None where no method runs that takes one.

        Raises:
            MethodDoesNotFit, BudgetTooSmall, ToleranceNotReached: as the order says.
        """
        method, _ = self.plan(rows, order)
        started = monotonic()
        estimates = []
        for i, (row, targets) in enumerate(zip(rows, order.targets, strict=True)):
            game = self.game(row, order.output)
            left_ms = order.deadline_ms - (monotonic() - started) * 1000
            clock = Clock(left_ms / (len(rows) - i))
            replayed = None if order.evaluations is None else order.evaluations[i]
            limits = Limits(order.tolerance, order.budget, clock.may_go_on, replayed)
            if method == "exact":
                estimate = _choose_targets(exact(game, slice_rows=SLICE_ROWS), targets)
            elif method == "kernel":
                estimate = kernel(game, targets, seed=order.seed, limits=limits, slice_rows=SLICE_ROWS)
            else:
                assert gradient is not None
                estimate = expected_gradients(game, gradient(), targets, seed=order.seed, limits=limits)
            if order.strict:
                _check_tolerance(estimate, order.tolerance)
            estimates.append(estimate)
        return estimates


class Clock:
    """Says whether a round of evaluations fits before the deadline, from the pace of the rounds before it."""

    def __init__(self, deadline_ms: float) -> None:
        self._started, self._deadline_ms = monotonic(), deadline_ms
        self._evaluations = 0
        self._next = 0

    def may_go_on(self, evaluations: int) -> bool:
        # The round just ended is what this was asked for before; the first is as large as the second.
        self._evaluations += self._next or evaluations
        self._next = evaluations
        elapsed_ms = (monotonic() - self._started) * 1000
        return elapsed_ms * (1 + evaluations / self._evaluations) <= self._deadline_ms


def _choose_targets(estimate: Estimate, targets: tuple[int, ...]) -> Estimate:
    """The columns of an estimate over all outputs that were asked for."""
    chosen = list(targets)
    return Estimate(
        method=estimate.method,
        estimand=estimate.estimand,
        attributions=estimate.attributions[:, chosen],
        standard_errors=estimate.standard_errors[:, chosen],
        half_widths=estimate.half_widths[:, chosen],
        values=estimate.values[chosen],
        base_values=estimate.base_values[chosen],
        scales=estimate.scales[chosen],
        evaluations=estimate.evaluations,
        stop_reason=estimate.stop_reason,
    )


def _check_tolerance(estimate: Estimate, tolerance: float) -> None:
    if estimate.stop_reason in ("exact", "closed-form", "tolerance"):
        return
    errors = np.maximum(estimate.half_widths.max(axis=0), np.abs(estimate.efficiency_residuals))
    raise ToleranceNotReached(tolerance, float((errors / estimate.scales).max()), estimate.stop_reason)
