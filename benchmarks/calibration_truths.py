"""What the estimators of saliency and of interactions should give on the games of `calibration.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from explain.attribution import CONFIDENCE, Estimate
from explain.game import Background, Game
from explain.smoothing import element_spreads

RISE_CELLS = 5
"""Into how many cells the positions of a game are cut for `rise`: few enough to put through every mask."""
NOISE_PAIRS = 2**16
"""Pairs of noise behind the truth of `smooth-grad`: hundreds of times what a run is given."""

Slopes = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Rows `(n, n_players)` to gradients of the same shape."""


def as_series(game: Game) -> Game:
    """The game with its columns as the steps of a series of one channel, whose masks may be in between."""
    n_players = game.n_players

    def evaluate(rows: NDArray[np.float32]) -> NDArray[np.floating]:
        return game.evaluate(rows.reshape(-1, n_players))

    background = Background.of(game.background.rows.reshape(-1, n_players, 1), evaluate)
    return Game(evaluate, game.row.reshape(n_players, 1), background, game.players.reshape(n_players, 1))


def rise_saliency(series: Game) -> NDArray[np.float64]:
    """`(n_players,)`: the mean over every mask m of (m_i - 1/2) (f(m) - f(1 - m)).

    The masks are those of Petsiuk et al. 2018: a grid of zeros and ones, a grid point every `width` positions, drawn
    out linearly and shifted by less than a width.
    """
    length = len(series.row)
    width = math.ceil(length / RISE_CELLS)
    n_points = math.ceil((length + width - 1) / width) + 1
    grids = np.array(list(product((0.0, 1.0), repeat=n_points)))
    reference = series.background.weights @ series.background.rows.reshape(-1, length).astype(np.float64)
    sums = np.zeros(length)
    for shift in range(width):
        places = (np.arange(length) + shift) / width
        before = places.astype(np.intp)
        masks = grids[:, before] * (1 - places + before) + grids[:, before + 1] * (places - before)
        for start in range(0, len(masks), 4096):
            part = masks[start : start + 4096]
            ends = [reference + kept * (series.row[:, 0] - reference) for kept in (part, 1 - part)]
            first, second = (series.evaluate(rows[..., np.newaxis].astype(np.float32))[:, 0] for rows in ends)
            sums += (first - second) @ (part - 0.5)
    return sums / (len(grids) * width)


def smoothed_slopes(game: Game, slopes: Slopes, *, noise: float) -> NDArray[np.float64]:
    """`(n_players,)`: the mean slope under normal noise, by many pairs of noise of opposite sign."""
    rng = np.random.default_rng(13)
    deviations = noise * element_spreads(game.background)
    row, sums = game.row.astype(np.float64), np.zeros(game.n_players)
    for _ in range(NOISE_PAIRS // 4096):
        half = rng.normal(size=(4096, game.n_players)) * deviations
        sums += (slopes(row + half) + slopes(row - half)).sum(axis=0)
    return sums / (2 * NOISE_PAIRS)


def unanimity_interactions(members: NDArray[np.bool_], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n_pairs,)`: a unanimity game of n members gives every two of them its coefficient / (n - 1).

    Grabisch and Roubens 1999; pairs in lexicographic order.

    Args:
        members: `(n_games, n_players)`.
    """
    shares = coefficients / np.maximum(members.sum(axis=1) - 1, 1)
    first, second = np.triu_indices(members.shape[1], 1)
    return np.einsum("gi,gj,g->ij", members, members, shares, optimize=True)[first, second]


def of_interactions(estimate: Estimate) -> Estimate:
    """An estimate's interactions in the place of its attributions, with intervals of the normal distribution."""
    from scipy.stats import norm

    if estimate.interactions is None:
        raise ValueError("expected an estimate with interactions; received one without. Ask for them first.")
    errors = estimate.interactions.standard_errors
    width = float(norm.ppf((1 + CONFIDENCE) / 2))
    return replace(
        estimate, attributions=estimate.interactions.values, standard_errors=errors, half_widths=width * errors
    )
