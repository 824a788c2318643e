"""Explains rows of one version: the part that is the same in the API process and in the compute process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain import segments
from explain.attribution import Estimate
from explain.auto import Price, Situation, choose_plan
from explain.backgrounds import named_background
from explain.cam import FeatureMaps
from explain.errors import BudgetTooSmall, ToleranceNotReached
from explain.exact import exact_cost
from explain.game import Background, Game
from explain.groups import group_players
from explain.hierarchy import Hierarchy
from explain.limits import Limits
from explain.methods import AUTO, METHODS, Kind, check_method
from explain.paths import Gradient
from explain.players import Players, pixel_players
from explain.running import Work
from models.artifact import Artifact
from models.encoding.reading import Given
from models.rows import ModelInput
from service.serving.engine import SLICE_ROWS, Engine
from service.serving.players import association_hierarchy, column_players, game_of_text, kind_of, series_players
from service.serving.prices import LearnedPrice


@dataclass(frozen=True, slots=True)
class ExplanationOrder:
    """What is asked of an explanation, with everything resolved.

    Attributes:
        targets: per row, the indices of the targets to explain.
        method: "auto", or a method by name.
        deadline_ms: what is left of it when the work is handed over, for all rows together.
        options: of the method, complete.
        given: per row, what it said in strings; empty where all features are numbers, or rows came without them.
        evaluations: of a run to replay, per row: each row runs exactly as many, whatever the clock and the tolerance
            say, with the seed, the budget and the method (never "auto") of that run.
        gradient_engine: of a run to replay, what took its gradients; None for what the version takes them with.
    """

    targets: tuple[tuple[int, ...], ...]
    output: str
    method: str
    tolerance: float
    deadline_ms: float
    budget: int | None
    strict: bool
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[Given, ...] = ()
    evaluations: tuple[int, ...] | None = None
    gradient_engine: str | None = None

    def given_of(self, row: int) -> Given:
        return self.given[row] if self.given else {}


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What the API process must know of a version that is loaded in the compute process.

    Attributes:
        device: that TensorFlow computes on.
        gradient_slice_rows: rows of a call, by the engines that can take its gradients; the first one does.
        memory_bytes: what it takes there: what its engine allocated, its Keras model and graphs of gradients by their
            files, and what TensorFlow compiled.
    """

    device: str
    gradient_slice_rows: dict[str, int]
    memory_bytes: int = 0

    @property
    def gradient_engine(self) -> str:
        return next(iter(self.gradient_slice_rows))


@dataclass(frozen=True, slots=True)
class Networks:
    """What methods that do more than evaluate are given, by the output that they explain.

    Attributes:
        gradient: of an output, by the engine of that name, or by the version's own.
    """

    gradient: Callable[[str, str | None], Gradient]
    model: Callable[[str], Any]
    maps: Callable[[str, str | None], FeatureMaps]
    gradient_price: LearnedPrice


class ExplainedVersion:
    """A version with what its explanations need: its engine, background and players.

    Args:
        price: of the engine.
        networks: None where no method runs that does more than evaluate.
    """

    def __init__(
        self, artifact: Artifact, engine: Engine, price: LearnedPrice, networks: Networks | None = None
    ) -> None:
        self.engine, self.price, self._networks = engine, price, networks
        signature = self._signature = artifact.signature
        self.kind: Kind = kind_of(signature)
        rows, weights = artifact.background
        # Asked for a row's segments when its work is planned, begun and grouped.
        self._segments = lru_cache(maxsize=64)(_segments_of)
        self._backgrounds = {
            output: Background.of(rows, partial(engine.evaluate, output=output), weights)
            for output in signature.outputs
        }

    def game(self, row: ModelInput, order: ExplanationOrder, given: Given) -> tuple[Game, Hierarchy | None]:
        """A row's game, and who belongs together in it where that is the row's own.

        Its players and its background are those of the version, or as the options say.
        """
        evaluate = partial(self.engine.evaluate, output=order.output)
        if self._signature.text is not None:
            game, players = game_of_text(self._signature.text, row, given, order.options, evaluate)
            return game, players.hierarchy
        background = self._backgrounds[order.output]
        if order.method in METHODS and METHODS[order.method].replaces_background:
            background = named_background(order.options.get("baseline", "sample"), row, background, evaluate)
        if (n_segments := order.options.get("segments")) is not None:
            players = self._segments(row.tobytes(), row.shape, n_segments)
        elif self._signature.series is not None:
            players = series_players(self._signature.series, order.options)
        else:
            return Game(evaluate, row, background, self._elements), None
        return Game(evaluate, row, background, players.elements), players.hierarchy

    def plan(self, rows: ModelInput, order: ExplanationOrder) -> tuple[str, float]:
        """The method for a request, and its price in milliseconds where it is known before (`exact`), else infinity.

        `auto` goes by what a row of this version costs at most and by its share of the deadline, so that one row's
        method does not depend on what the others are.

        Raises:
            MethodDoesNotFit: when the method cannot explain these rows.
            BudgetTooSmall: when `exact` was named and the budget does not cover every coalition.
        """
        games = [self.game(row, order, order.given_of(i))[0] for i, row in enumerate(rows)]
        costs = [exact_cost(game) for game in games]
        if order.method == AUTO:
            method = choose_plan(self._situation(games[0], order, len(rows))).method
        else:
            method = order.method
            check_method(method, self.kind, max(_n_playing(method, game) for game in games))
            if method == "exact" and order.budget is not None and max(costs) > order.budget:
                raise BudgetTooSmall(method, int(max(costs)), order.budget)
        return method, self.price.now.of(sum(costs)) if method == "exact" else math.inf

    def explain(
        self, rows: ModelInput, order: ExplanationOrder, *, paused_ms: Callable[[], float] = lambda: 0.0
    ) -> list[Estimate]:
        """Explains each row on its own; what is left of the deadline is shared evenly by the rows still to do.

        Args:
            paused_ms: time so far that does not count towards the deadline.

        Raises:
            MethodDoesNotFit, BudgetTooSmall, ToleranceNotReached: as the order says.
        """
        name, _ = self.plan(rows, order)
        clock = Clock(order.deadline_ms, paused_ms)
        estimates = []
        for i, (row, targets) in enumerate(zip(rows, order.targets, strict=True)):
            pace = Pace(Clock(clock.left_ms / (len(rows) - i), paused_ms))
            replayed = None if order.evaluations is None else order.evaluations[i]
            limits = Limits(order.tolerance, order.budget, pace.may_go_on, replayed)
            game, hierarchy = self.game(row, order, order.given_of(i))
            work = Work(
                game,
                targets,
                order.seed,
                limits,
                SLICE_ROWS,
                order.options,
                hierarchy=lambda own=hierarchy: own or self._whole_hierarchy,
                **self._networks_of(order),
            )
            estimate = METHODS[name].run(work)
            if "segments" in order.options:
                estimate = replace(estimate, segments=game.players[..., 0])
            if order.strict:
                _check_tolerance(estimate, order.tolerance)
            estimates.append(estimate)
        return estimates

    def _situation(self, game: Game, order: ExplanationOrder, n_rows: int) -> Situation:
        return Situation(
            kind=self.kind,
            n_players=game.n_players,
            n_background=len(game.background.rows),
            n_targets=max(map(len, order.targets)),
            price=self.price.now,
            gradient_price=self._gradient_price,
            deadline_ms=order.deadline_ms / n_rows,
            tolerance=order.tolerance,
            budget=order.budget,
        )

    @property
    def _gradient_price(self) -> Price | None:
        if not self._signature.is_continuous:
            return None
        return self._networks.gradient_price.now if self._networks else self.price.now.times(3)

    def _networks_of(self, order: ExplanationOrder) -> dict[str, Callable[..., Any]]:
        if self._networks is None:
            return {}
        return {
            "gradient": partial(self._networks.gradient, order.output, order.gradient_engine),
            "model": partial(self._networks.model, order.output),
            "maps": partial(self._networks.maps, order.output),
        }

    @cached_property
    def _elements(self) -> NDArray[np.intp]:
        """The players of a row whose players are not its own: pixels, or features."""
        image = self._signature.image
        return pixel_players(image.shape) if image is not None else column_players(self._signature).elements

    @cached_property
    def _whole_hierarchy(self) -> Hierarchy:
        """Who belongs together among them: neighbouring pixels, or columns that go together."""
        background = next(iter(self._backgrounds.values()))
        if self.kind == "image":
            return segments.image_pixels(background.rows.shape[1:]).hierarchy
        if self.kind == "mixed":
            return association_hierarchy(self._signature, background)
        columns = [str(column) for column in range(background.rows.shape[1])]
        players = group_players(columns, {}, background=background.rows, weights=background.weights)
        return players.hierarchy


def _segments_of(row: bytes, shape: tuple[int, ...], n_segments: int) -> Players:
    return segments.segment_players(np.frombuffer(row, np.float32).reshape(shape), n_segments)


def _n_playing(method: str, game: Game) -> int:
    """The players that count towards the most that a method takes."""
    # `exact` plays a game for each background row; the others one for all of them.
    return int(game.differing.sum(axis=1).max()) if method == "exact" else len(game.playing)


class Clock:
    """What is left of a deadline, which time in pauses does not count towards."""

    def __init__(self, deadline_ms: float, paused_ms: Callable[[], float]) -> None:
        self._paused_ms = paused_ms
        self._started_ms = monotonic() * 1000 - paused_ms()
        self.deadline_ms = deadline_ms

    @property
    def elapsed_ms(self) -> float:
        return monotonic() * 1000 - self._paused_ms() - self._started_ms

    @property
    def left_ms(self) -> float:
        return self.deadline_ms - self.elapsed_ms


class Pace:
    """Says whether a round of evaluations fits before the deadline, from the pace of the rounds before it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._evaluations = 0
        self._next = 0

    def may_go_on(self, evaluations: int) -> bool:
        # The round just ended is what this was asked for before; the first is as large as the second.
        self._evaluations += self._next or evaluations
        self._next = evaluations
        return self._clock.elapsed_ms * (1 + evaluations / self._evaluations) <= self._clock.deadline_ms


def _check_tolerance(estimate: Estimate, tolerance: float) -> None:
    if estimate.stop_reason in ("exact", "closed-form", "tolerance"):
        return
    errors = estimate.half_widths.max(axis=0)
    if estimate.estimand != "saliency":
        # Saliency claims no axioms: it adds up to nothing.
        errors = np.maximum(errors, np.abs(estimate.efficiency_residuals))
    raise ToleranceNotReached(tolerance, float((errors / estimate.scales).max()), estimate.stop_reason)
