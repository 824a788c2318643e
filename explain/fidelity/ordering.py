"""Insertion and deletion: whether the players that an explanation puts first move the output first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.game import Game

STEPS = 16
"""Points of a curve, beside its beginning."""

Orders = NDArray[np.intp]
"""`(n_orders, n_players)`: players, first to last."""


@dataclass(frozen=True, slots=True)
class OrderingCurves:
    """Curves of several orders of one row's players.

    Attributes:
        shares: `(n_points,)`, the part of the players that was inserted or deleted, 0 to 1.
        insertion: `(n_orders, n_points)`, v(the first players): high early when the order is good.
        deletion: `(n_orders, n_points)`, v(all but the first players): low early when the order is good.
    """

    shares: NDArray[np.float64]
    insertion: NDArray[np.float64]
    deletion: NDArray[np.float64]

    @property
    def insertion_areas(self) -> NDArray[np.float64]:
        """`(n_orders,)`, in the units of the output: the mean height, by trapezoids."""
        return _areas(self.insertion, self.shares)

    @property
    def deletion_areas(self) -> NDArray[np.float64]:
        """`(n_orders,)`, in the units of the output: the mean height, by trapezoids."""
        return _areas(self.deletion, self.shares)

    @property
    def gains(self) -> NDArray[np.float64]:
        """`(n_orders,)`: insertion area - deletion area. A random order's is 0 on average, exactly."""
        return self.insertion_areas - self.deletion_areas


def ordering_curves(game: Game, target: int, orders: Orders, *, slice_rows: int, steps: int = STEPS) -> OrderingCurves:
    """Insertion and deletion curves (Petsiuk et al. 2018, "RISE: randomized input sampling for explanation of
    black-box models").

    Players are inserted into, or deleted towards, the background: a point is v(S), the weighted mean over it, where
    the paper blurs or blackens pixels. With more players than `steps`, they go in groups of about equal size.

    Args:
        orders: as `descending` gives them.
        slice_rows: the most rows in one call of the model.
    """
    n_orders, n_players = orders.shape
    counts = np.unique(np.round(np.linspace(0, n_players, min(steps, n_players) + 1)).astype(np.intp))
    places = np.empty_like(orders)
    np.put_along_axis(places, orders, np.arange(n_players)[np.newaxis], axis=1)
    first = places[:, np.newaxis] < counts[np.newaxis, :, np.newaxis]
    # The ends are known, and the same for every order.
    inner = first[:, 1:-1].reshape(-1, n_players)
    values = game.coalition_values(
        np.concatenate([inner, ~inner]),
        np.arange(n_players),
        np.arange(len(game.background.rows)),
        slice_rows=slice_rows,
    )[:, target].reshape(2, n_orders, len(counts) - 2)
    nothing, everything = (np.full((n_orders, 1), end[target]) for end in (game.background.base_values, game.value))
    return OrderingCurves(
        shares=counts / n_players,
        insertion=np.concatenate([nothing, values[0], everything], axis=1),
        deletion=np.concatenate([everything, values[1], nothing], axis=1),
    )


def descending(attributions: NDArray[np.float64], *, seed: int) -> Orders:
    """Players by falling attribution, `(n_orders, n_players)`; ties fall as the seed says.

    Args:
        attributions: `(n_orders, n_players)`, of one target, with their signs.
    """
    shuffled = random_orders(1, attributions.shape[1], seed=seed)[0]
    return shuffled[np.argsort(-attributions[:, shuffled], axis=1, kind="stable")]


def random_orders(n_orders: int, n_players: int, *, seed: int) -> Orders:
    """Uniformly random orders: what an explanation that knows nothing would do."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(n_players), (n_orders, 1)), axis=1)


def edge_attributions(game: Game) -> NDArray[np.float64]:
    """`(n_players,)`: the magnitude of the Sobel gradient of each channel of an image, summed to players.

    It sees the image and not the model: an explanation that orders pixels no better says nothing of the model (Adebayo
    et al. 2018, "Sanity checks for saliency maps").

    Args:
        game: whose row is an image `(height, width, channels)`.
    """
    from scipy.ndimage import sobel

    channels = [image.astype(np.float64) for image in np.moveaxis(game.row, -1, 0)]
    magnitudes = [np.hypot(sobel(image, axis=0), sobel(image, axis=1)) for image in channels]
    return game.sum_to_players(np.stack(magnitudes, axis=-1)[np.newaxis])[0]


def _areas(heights: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("op,p->o", (heights[:, 1:] + heights[:, :-1]) / 2, np.diff(places))
