"""MuFidelity and infidelity: whether attributions foretell what removing players does to the output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.game import CoalitionMatrix, Game


@dataclass(frozen=True, slots=True)
class Removals:
    """What removing random sets of players does to one output of one row.

    Attributes:
        removed: `(n_subsets, n_players)`.
        drops: `(n_subsets,)`, v(all) - v(all but the removed).
    """

    removed: CoalitionMatrix
    drops: NDArray[np.float64]

    def foretold(self, attributions: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n_subsets,)`: the drops if attributions added up."""
        return np.einsum("sp,p->s", self.removed.astype(np.float64), attributions)


def draw_removals(
    game: Game, target: int, *, n_subsets: int, seed: int, slice_rows: int, size: int | None = None
) -> Removals:
    """Removes random sets of players, towards the background.

    Args:
        size: of every set, as MuFidelity takes it. None: each set has a size of its own, uniform from 1 to all but one.
        slice_rows: the most rows in one call of the model.
    """
    rng = np.random.default_rng(seed)
    n_players = game.n_players
    sizes = np.full(n_subsets, size) if size else rng.integers(1, max(n_players, 2), size=n_subsets)
    places = rng.permuted(np.tile(np.arange(n_players), (n_subsets, 1)), axis=1)
    removed = places < sizes[:, np.newaxis]
    left = game.coalition_values(
        ~removed, np.arange(n_players), np.arange(len(game.background.rows)), slice_rows=slice_rows
    )[:, target]
    return Removals(removed, game.value[target] - left)


def mu_fidelity(attributions: NDArray[np.float64], removals: Removals) -> float:
    """MuFidelity (Bhatt et al. 2020, "Evaluating and aggregating feature-based model explanations", faithfulness).

    The Pearson correlation, over sets of one size, of the sum of a set's attributions with what its removal takes from
    the output: -1 to 1, and 1 for every additive model explained rightly. It does not see a wrong scale or offset. NaN
    where one of the two does not vary, as with a constant model.

    Args:
        attributions: `(n_players,)`.
    """
    foretold = removals.foretold(attributions)
    left, right = foretold - foretold.mean(), removals.drops - removals.drops.mean()
    norms = math.sqrt(float(left @ left) * float(right @ right))
    # Rounding alone does not count as varying.
    noise = 1e-12 * len(left) * float(np.abs(foretold).max() * np.abs(removals.drops).max())
    return float(left @ right) / norms if norms > noise else math.nan


def infidelity(attributions: NDArray[np.float64], removals: Removals) -> float:
    """Infidelity (Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", definition 2.1).

    The mean square of (sum of a set's attributions - what its removal takes from the output): 0 or more, in squared
    units of the output, and 0 for every additive model explained rightly. Attributions that are all 0 get the mean
    square of the drops; divided by that, 1 is as bad as no explanation. Interactions keep it above 0, whatever the
    attributions.

    The perturbation is removal towards the background, and attributions are shares of the output, so that they are
    not multiplied by it.

    Args:
        attributions: `(n_players,)`.
    """
    return float(np.mean((removals.foretold(attributions) - removals.drops) ** 2))
