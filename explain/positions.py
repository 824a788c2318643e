"""How values over positions (pixels of an image, steps of a series) become finer ones, and values of players."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from explain.game import Game

Shape = tuple[int, ...]


def position_shape(row_shape: Shape) -> Shape:
    """The axes of a row without its channels, which are the last axis of a row with more than one."""
    return row_shape if len(row_shape) == 1 else row_shape[:-1]


def resized(values: NDArray[np.float64], shape: Shape) -> NDArray[np.float64]:
    """Values over a grid of cells, `(*cells)`, as values over another grid that spans the same extent, `shape`.

    Along each axis a coarser grid is interpolated linearly between the centres of its cells (so bilinearly over an
    image), and held constant beyond the outermost centres; of a finer grid each position takes the mean over its
    extent. The mean of all values stays what it is where one size divides the other.
    """
    for axis, (n_cells, n_positions) in enumerate(zip(values.shape, shape, strict=True)):
        weights = _interpolation(n_cells, n_positions) if n_cells <= n_positions else _overlap(n_cells, n_positions)
        moved = np.moveaxis(values, axis, 0)
        # einsum, not a BLAS product: its order of summation does not depend on threads.
        values = np.moveaxis(np.einsum("pc,c...->p...", weights, moved), 0, axis)
    return values


def _interpolation(n_cells: int, n_positions: int) -> NDArray[np.float64]:
    centres = np.clip((np.arange(n_positions) + 0.5) * n_cells / n_positions - 0.5, 0, n_cells - 1)
    return np.maximum(1 - np.abs(centres[:, np.newaxis] - np.arange(n_cells)), 0)


def _overlap(n_cells: int, n_positions: int) -> NDArray[np.float64]:
    cells, positions = np.arange(n_cells) / n_cells, np.arange(n_positions)[:, np.newaxis] / n_positions
    ends = np.minimum(cells + 1 / n_cells, positions + 1 / n_positions)
    return np.maximum(ends - np.maximum(cells, positions), 0) * n_positions


class PositionPlayers:
    """Sums values over positions to values of players.

    A position's value is divided evenly over its channels, and a player gets the sum over what it owns: a pixel the
    value of its position, a segment the sum over its pixels, one of a step's channels its even part.
    """

    def __init__(self, game: Game) -> None:
        n_positions = int(np.prod(position_shape(game.row.shape)))
        owners = game.players.reshape(n_positions, -1)
        whole = bool((owners == owners[:, :1]).all())
        if whole:
            owners = owners[:, :1]
        flat = owners.reshape(-1)
        order = np.argsort(flat, kind="stable")
        self._part = 1.0 / owners.shape[1]
        self._positions = order // owners.shape[1]
        self._starts = np.searchsorted(flat[order], np.arange(game.n_players))
        self.one_to_one = whole and game.n_players == n_positions

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """From `(n, n_positions)` to `(n, n_players)`."""
        parts = values[:, self._positions]
        if self.one_to_one:
            return parts
        return np.add.reduceat(parts * self._part, self._starts, axis=1)
