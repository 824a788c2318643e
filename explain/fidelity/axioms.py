"""Games made so that an axiom says what the attributions must be: efficiency, dummy, symmetry, linearity, determinism.

Each check returns how far attributions are from what they must be, in units of what is allowed: above 1 is a violation.
Allowed are 1e-5 (efficiency) or 1e-6 of S, the rounding of the model's float32 outputs, and four 95 % half-widths where
the explainer states them: with 7 or more degrees of freedom a right explainer errs so far in fewer than 1 of 100,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.fidelity.subject import Explain
from explain.game import Background, Evaluate, Game, Outputs, Rows

EFFICIENCY_TOLERANCE = 1e-5
AXIOM_TOLERANCE = 1e-6
HALF_WIDTHS = 4.0
_ULPS = 8 * float(np.finfo(np.float32).eps)


def efficiency_excess(game: Game, estimate: Estimate, targets: Sequence[int], *, tolerance: float) -> float:
    """|sum of attributions - (value - base value)|, by the model's own values, in units of what is allowed.

    Args:
        targets: those of the estimate's columns.
        tolerance: of S; half-widths give no more, since Shapley estimators add up whatever they have seen.
    """
    gains = (game.value - game.background.base_values)[list(targets)]
    residuals = np.abs(estimate.attributions.sum(axis=0) - gains)
    return _largest(residuals / (tolerance * game.scales[list(targets)] + rounding(game)[list(targets)]))


def tied_player_excess(explain: Explain, game: Game, target: int, player: int, *, seed: int) -> float:
    """The attribution of a player that is made equal to the whole background: it must be 0 (dummy)."""
    owned = game.players == player
    rows = np.where(owned, game.row, game.background.rows)
    tied = replace(game, background=Background.of(rows, game.evaluate, game.background.weights))
    return _excess_of_zero(tied, explain(tied, (target,), seed), player, target)


def ignored_player_excess(explain: Explain, game: Game, target: int, player: int, *, seed: int) -> float:
    """The attribution of a player that differs, in a model that is made to ignore it: it must be 0 (dummy)."""
    owned = game.players == player

    def ignoring(rows: Rows) -> Outputs:
        return game.evaluate(np.where(owned, game.row, rows))

    blind = _with_evaluate(game, ignoring)
    return _excess_of_zero(blind, explain(blind, (target,), seed), player, target)


def symmetry_excess(explain: Explain, game: Game, target: int, twins: tuple[int, int], *, seed: int) -> float:
    """The difference between the attributions of two players that are made to play the same part: it must be 0.

    The model is given the mean of the two where it had the first; the second has the first's values in the row and in
    the background, and no other part.

    Args:
        twins: two players that own equally many elements.
    """
    first, second = (np.flatnonzero(game.players.reshape(-1) == player) for player in twins)
    row, references = game.row.copy().reshape(-1), game.background.rows.copy().reshape(len(game.background.rows), -1)
    kept = row[second].copy()
    row[second] = row[first]
    references[:, second] = references[:, first]

    def sharing(rows: Rows) -> Outputs:
        flat = rows.copy().reshape(len(rows), -1)
        flat[:, first] = (flat[:, first] + flat[:, second]) / 2
        flat[:, second] = kept
        return game.evaluate(flat.reshape(rows.shape))

    background = replace(game.background, rows=references.reshape(game.background.rows.shape))
    twin = _with_evaluate(replace(game, row=row.reshape(game.row.shape), background=background), sharing)
    estimate = explain(twin, (target,), seed)
    one, other = estimate.attributions[list(twins), 0]
    return _excess(abs(one - other), twin, estimate, list(twins), target)


def linearity_excess(explain: Explain, game: Game, target: int, *, seed: int) -> float:
    """How far the attributions of f + 2 g + 3 are from those of f plus twice those of g.

    g is the hyperbolic tangent of f about its base value: another function on the same rows, explained in the same run.
    """
    base, scale = game.background.base_values[target], game.scales[target] or 1.0

    def three(rows: Rows) -> Outputs:
        outputs = np.asarray(game.evaluate(rows), dtype=np.float64)[:, target]
        bent = scale * np.tanh((outputs - base) / scale)
        return np.stack([outputs, bent, outputs + 2 * bent + 3], axis=1)

    triple = _with_evaluate(game, three)
    estimate = explain(triple, (0, 1, 2), seed)
    first, second, both = estimate.attributions.T
    allowed = AXIOM_TOLERANCE * triple.scales.sum() + rounding(triple).sum()
    allowed = allowed + HALF_WIDTHS * _stated(estimate.half_widths).sum(axis=1)
    return _largest(np.abs(both - first - 2 * second) / allowed)


def difference_of(one: Estimate, other: Estimate) -> float:
    """The largest difference between two runs with one seed: it must be 0, to the bit. NaN equals NaN.

    Runs of different numbers of evaluations differ by infinity: they went by a clock.
    """
    if one.evaluations != other.evaluations:
        return float("inf")
    pairs = ((one.attributions, other.attributions), (one.standard_errors, other.standard_errors))
    return max(0.0 if np.array_equal(*pair, equal_nan=True) else _largest(np.abs(pair[0] - pair[1])) for pair in pairs)


def rounding(game: Game) -> NDArray[np.float64]:
    """`(n_outputs,)`: what float32 may do to the outputs' differences, whatever is right."""
    return _ULPS * np.maximum(np.abs(game.value), np.abs(game.background.outputs).max(axis=0)) + 1e-300


def _with_evaluate(game: Game, evaluate: Evaluate) -> Game:
    background = Background.of(game.background.rows, evaluate, game.background.weights)
    return replace(game, evaluate=evaluate, background=background)


def _excess_of_zero(game: Game, estimate: Estimate, player: int, target: int) -> float:
    return _excess(abs(float(estimate.attributions[player, 0])), game, estimate, [player], target)


def _excess(distance: float, game: Game, estimate: Estimate, players: list[int], target: int) -> float:
    allowed = AXIOM_TOLERANCE * game.scales[target] + rounding(game)[target]
    allowed += HALF_WIDTHS * float(_stated(estimate.half_widths[players]).sum())
    return _largest(np.array(distance / allowed))


def _stated(half_widths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(half_widths), 0.0, half_widths)


def _largest(excesses: NDArray[np.float64]) -> float:
    """An attribution that is not a number is infinitely far from right."""
    return float(np.where(np.isnan(excesses), np.inf, excesses).max())
