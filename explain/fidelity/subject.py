"""What is checked: a model, and what explains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.game import Background, Evaluate, Game, Rows

Explain = Callable[[Game, Sequence[int], int], Estimate]
"""Explains some targets of a game with a seed. For equal games, targets and seeds it gives equal bits, so that it goes
by evaluations or tolerance and not by a clock."""


@dataclass(frozen=True)
class Subject:
    """A model with its background and players, and the explainer under check.

    Attributes:
        players: as in `Game`.
        sees_only_game: whether `explain` knows the model by `game.evaluate` alone. Then it is also asked about other
            models, made for the checks, of which the right answer is known. Where it has a gradient of this model
            (expected gradients), it must be False.
        path_tolerance: of S, the residual up to which a path method says that it has reached its tolerance.
        movable: `row_shape`, the elements whose values can move a little and still mean something, which codes of
            categories and words cannot; None for all of them.
    """

    evaluate: Evaluate
    background: Background
    players: NDArray[np.intp]
    explain: Explain
    sees_only_game: bool
    path_tolerance: float = 0.01
    movable: NDArray[np.bool_] | None = None

    def game(self, row: Rows) -> Game:
        return Game(self.evaluate, row, self.background, self.players)
