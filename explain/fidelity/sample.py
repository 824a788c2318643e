"""The rows that an explainer is checked on, and what the checks share: games, targets, estimates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimand, Estimate
from explain.fidelity import truth
from explain.fidelity.subject import Subject
from explain.game import Game, Rows

ADDING_UP = ("shapley", "owen", "aumann-shapley")
"""Estimands whose attributions add up; saliency claims no axioms, and is asked for none."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much each check does. The defaults take seconds on two cores for small models.

    Attributes:
        subsets: removed sets per row, for MuFidelity and infidelity.
        orders: random orders per row.
        steps: points of an insertion or deletion curve.
        replicates: independent estimates per row.
        some_rows: rows of randomization, background stability and disagreement.
        few_rows: rows of the axioms, of determinism and of max-sensitivity.
        perturbations: of each of those rows.
        exact_players, exact_background, exact_rows: the size of the games compared with every coalition.
        slice_rows: the most rows in one call of the model.
    """

    subsets: int = 200
    orders: int = 10
    steps: int = 16
    replicates: int = 256
    some_rows: int = 8
    few_rows: int = 3
    perturbations: int = 5
    exact_players: int = 10
    exact_background: int = 32
    exact_rows: int = 16
    slice_rows: int = 4096


IMAGE_EFFORT = Effort(subsets=100, orders=5, steps=10, replicates=128, few_rows=2, perturbations=3)
"""For rows that cost a small convolutional network tens of microseconds each, where columns cost one."""


class Sample:
    """An explainer of a model on some rows; what is asked of it is computed when it is first needed, and once."""

    def __init__(self, subject: Subject, rows: Rows, effort: Effort, seed: int) -> None:
        self.subject, self.effort, self.seed = subject, effort, seed
        self.rows = rows
        self.games = [subject.game(row) for row in rows]
        self.targets = [int(np.argmax(game.value)) for game in self.games]
        self.scales = np.array(
            [game.scales[target] or 1.0 for game, target in zip(self.games, self.targets, strict=True)]
        )
        self.n_players = self.games[0].n_players
        self.some = range(min(effort.some_rows, len(rows)))
        self.few = range(min(effort.few_rows, len(rows)))

    @cached_property
    def estimates(self) -> list[Estimate]:
        return [self.explain(row) for row in range(len(self.rows))]

    @cached_property
    def attributions(self) -> NDArray[np.float64]:
        """`(n_rows, n_players)`."""
        return np.stack([estimate.attributions[:, 0] for estimate in self.estimates])

    @property
    def estimand(self) -> Estimand:
        return self.estimates[0].estimand

    @cached_property
    def references(self) -> list[truth.Independent]:
        """Our own estimates of the Shapley values of each row."""
        return [
            truth.independent_shapley(
                game,
                target,
                replicates=self.effort.replicates,
                seed=self.seed + i,
                slice_rows=self.effort.slice_rows,
            )
            for i, (game, target) in enumerate(self.each())
        ]

    def each(self) -> list[tuple[Game, int]]:
        """The game and the target of each row."""
        return list(zip(self.games, self.targets, strict=True))

    def explain(self, row: int) -> Estimate:
        return self.explain_with(self.subject, self.games[row], self.targets[row])

    def explain_with(self, subject: Subject, game: Game, target: int) -> Estimate:
        return subject.explain(game, (target,), self.seed)

    def by_size(self, row: int) -> list[int]:
        """The players of a row, those with the largest attributions first."""
        return np.argsort(-np.abs(self.attributions[row]), kind="stable").tolist()
