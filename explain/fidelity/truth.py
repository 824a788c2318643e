"""Attributions against the truth: every coalition where that can be had, else an unbiased estimate of our own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from explain.exact import exact
from explain.fidelity.agreement import part_of
from explain.fidelity.axioms import EFFICIENCY_TOLERANCE, rounding
from explain.fidelity.subject import Explain
from explain.game import Game, Rows

MAX_PLAYERS = 1024
"""Above, one permutation alone would take too many rows."""
FINITE_DIFFERENCE = 1e-3
"""Of the way from background to row: small beside the bends of a network, large beside its rounding."""


@dataclass(frozen=True, slots=True)
class Independent:
    """Independent unbiased estimates of one target's attributions, kept as sums.

    Attributes:
        mean: `(n_players,)`.
        mean_square: the mean squared norm of an estimate.
        replicates: how many.
    """

    mean: NDArray[np.float64]
    mean_square: float
    replicates: int

    def squared_error(self, attributions: NDArray[np.float64]) -> float:
        """An unbiased estimate of the squared distance between attributions `(n_players,)` and the truth.

        The mean inner product of the differences of two different replicates; it can fall below 0.
        """
        n = self.replicates
        mean = self.mean - attributions
        squares = self.mean_square - 2 * float(self.mean @ attributions) + float(attributions @ attributions)
        return (n * float(mean @ mean) - squares) / (n - 1)


def independent_shapley(game: Game, target: int, *, replicates: int, seed: int, slice_rows: int) -> Independent:
    """Shapley values by what each player adds in a random order, before one background row drawn by weight.

    Each replicate is the mean over an order and its reverse (Štrumbelj and Kononenko 2014, "Explaining prediction
    models and individual predictions with feature contributions", with antithetic orders). It shares
    nothing with the estimators under check but `evaluate`.

    Args:
        game: of at most 1,024 players.
    """
    rng = np.random.default_rng(seed)
    n_players, background = game.n_players, game.background
    references = rng.choice(len(background.rows), size=replicates, p=background.weights)
    orders = rng.permuted(np.tile(np.arange(n_players), (replicates, 1)), axis=1)
    places = np.empty_like(orders)
    np.put_along_axis(places, orders, np.arange(n_players)[np.newaxis], axis=1)
    sums, squares = np.zeros(n_players), 0.0
    counts = np.arange(1, n_players)[:, np.newaxis]
    block = max(slice_rows // max(2 * (n_players - 1), 1), 1)
    for start in range(0, replicates, block):
        chosen, place = references[start : start + block], places[start : start + block]
        # The first players of the order, and of its reverse, for every number of them: 2 (n_players - 1) rows each.
        forward, backward = place[:, np.newaxis] < counts, place[:, np.newaxis] >= n_players - counts
        taken = np.concatenate([forward, backward], axis=1)[..., game.players]
        rows = np.where(taken, game.row, background.rows[chosen][:, np.newaxis]).reshape(-1, *game.row.shape)
        inner = _evaluate(game, rows, target, slice_rows).reshape(len(chosen), 2, n_players - 1)
        empty = np.repeat(background.outputs[chosen, np.newaxis, target, np.newaxis], 2, axis=1)
        gains = np.diff(np.concatenate([empty, inner, np.full_like(empty, game.value[target])], axis=2))
        added = np.take_along_axis(gains[:, 0], place, axis=1)
        added = (added + np.take_along_axis(gains[:, 1], n_players - 1 - place, axis=1)) / 2
        sums += np.einsum("rp->p", added)
        squares += float(np.einsum("rp,rp->", added, added))
    return Independent(sums / replicates, squares / replicates, replicates)


def independent_aumann_shapley(game: Game, target: int, *, replicates: int, seed: int, slice_rows: int) -> Independent:
    """Aumann-Shapley values by slopes of the output alone, without a gradient.

    At a random point between the row and a background row drawn by weight, the slope along (x - b), with a random sign
    for each player, times those signs, has the attributions as its mean (simultaneous perturbation; Spall 1992). Slopes
    are central differences.
    """
    rng = np.random.default_rng(seed)
    references = rng.choice(len(game.background.rows), size=replicates, p=game.background.weights)
    sums, squares = np.zeros(game.n_players), 0.0
    ones = (1,) * game.row.ndim
    for chunk in np.split(references, range(slice_rows // 2, replicates, max(slice_rows // 2, 1))):
        signs = rng.choice([-1.0, 1.0], size=(len(chunk), game.n_players))
        positions = rng.random(len(chunk)).reshape(-1, *ones)
        steps = game.row.astype(np.float64) - game.background.rows[chunk]
        points = game.row - (1 - positions) * steps
        moves = FINITE_DIFFERENCE * signs[:, game.players] * steps
        rows = np.concatenate([points + moves, points - moves]).astype(np.float32)
        ahead, behind = _evaluate(game, rows, target, slice_rows).reshape(2, -1)
        slopes = (ahead - behind) / (2 * FINITE_DIFFERENCE)
        sums += np.einsum("r,rp->p", slopes, signs)
        squares += game.n_players * float(np.einsum("r,r->", slopes, slopes))
    return Independent(sums / replicates, squares / replicates, replicates)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of one row with the truth.

    Attributes:
        relative_error: ||attributions - truth|| / ||truth||; 0 where both are 0.
        covered: the part of the players whose true value is inside the stated 95 % interval, give or take 1e-5 S and
            the outputs' rounding; NaN where no errors are stated.
        wrong_though_exact: whether an attribution that states an error of 0 is further off than that.
    """

    relative_error: float
    covered: float
    wrong_though_exact: bool


def compare_with_exact(
    explain: Explain,
    game: Game,
    target: int,
    *,
    n_players: int,
    n_background: int,
    seed: int,
    slice_rows: int,
) -> Comparison:
    """Explains a game that is small enough for every coalition: players merged, and part of the background.

    Args:
        game: with Shapley values as the estimand of `explain`.
        n_players: at most so many; more are merged into groups of neighbours, blocks in an image.
        n_background: at most so many background rows, drawn at random.
    """
    rng = np.random.default_rng(seed)
    n_rows = len(game.background.rows)
    members = np.sort(rng.choice(n_rows, size=min(n_background, n_rows), replace=False))
    small = replace(game, background=part_of(game.background, members), players=merged_players(game, n_players))
    truth = exact(small, slice_rows=slice_rows).attributions[:, target]
    estimate = explain(small, (target,), seed)
    errors, half_widths = np.abs(estimate.attributions[:, 0] - truth), estimate.half_widths[:, 0]
    size = float(np.linalg.norm(truth))
    distance = float(np.linalg.norm(errors))
    relative = distance / size if size > 0 else (0.0 if distance == 0 else float("inf"))
    allowed = half_widths + EFFICIENCY_TOLERANCE * small.scales[target] + rounding(small)[target]
    covered = float("nan") if np.isnan(half_widths).any() else float((errors <= allowed).mean())
    return Comparison(relative, covered, bool(((half_widths == 0) & ~(errors <= allowed)).any()))


def merged_players(game: Game, n_players: int) -> NDArray[np.intp]:
    """Players of `row_shape` merged into at most `n_players` groups; as they are where they are no more.

    An image with a player for each pixel, or less, is cut into square blocks; else neighbours by number go together.
    """
    if game.n_players <= n_players:
        return game.players
    per_pixel = game.players.ndim == 3 and bool((game.players == game.players[..., :1]).all())
    if per_pixel and game.n_players == game.players[..., 0].size:
        blocks = int(np.sqrt(n_players))
        down, across = (np.arange(size) * blocks // size for size in game.players.shape[:2])
        numbers = down[:, np.newaxis] * blocks + across
        _, dense = np.unique(numbers, return_inverse=True)
        return np.repeat(dense.reshape(numbers.shape)[..., np.newaxis], game.players.shape[2], axis=2)
    return game.players * n_players // game.n_players


def _evaluate(game: Game, rows: Rows, target: int, slice_rows: int) -> NDArray[np.float64]:
    slices = (rows[start : start + slice_rows] for start in range(0, len(rows), slice_rows))
    outputs = [np.asarray(game.evaluate(part), dtype=np.float64)[:, target] for part in slices]
    return np.concatenate([np.zeros(0), *outputs])
