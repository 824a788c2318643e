"""Who gets an attribution: which player each element of a row belongs to, and what the player is called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from explain.hierarchy import Hierarchy


@dataclass(frozen=True, slots=True)
class FeaturePlayer:
    """A feature that a person names, and the columns that encode it: one, or those of a one-hot block."""

    feature: str
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PixelPlayer:
    """A pixel of an image, its channels together."""

    feature: str
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class SegmentPlayer:
    """A connected segment of an image; segments are numbered from 0 in reading order of their first pixels."""

    feature: str
    segment: int


@dataclass(frozen=True, slots=True)
class WindowPlayer:
    """One channel of a series from step `window[0]` up to, not including, `window[1]`."""

    feature: str
    channel: str | int
    window: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TokenPlayer:
    """A token, or a run of words, and where it stands in the text: half-open, in code points."""

    feature: str
    token: str
    span: tuple[int, int]


Player: TypeAlias = FeaturePlayer | PixelPlayer | SegmentPlayer | WindowPlayer | TokenPlayer


@dataclass(frozen=True)
class Players:
    """The players of a row.

    Attributes:
        elements: an integer array of `row_shape`, which player each element belongs to: what a `Game` takes.
        described: the player of each number.
        hierarchy: who belongs together, for Owen values.
    """

    elements: NDArray[np.intp]
    described: tuple[Player, ...]
    hierarchy: Hierarchy

    @cached_property
    def n_players(self) -> int:
        return len(self.described)


def feature_players(n_features: int) -> NDArray[np.intp]:
    """One player per column, for rows of columns."""
    return np.arange(n_features)


def pixel_players(row_shape: tuple[int, ...]) -> NDArray[np.intp]:
    """One player per pixel, its channels together, for an image `(height, width, channels)`."""
    height, width, channels = row_shape
    return np.repeat(np.arange(height * width), channels).reshape(row_shape)


def share_over_pixels(values: NDArray[np.float64], elements: NDArray[np.intp]) -> NDArray[np.float64]:
    """A map of pixels: each player's attribution divided evenly over its pixels.

    Standard errors are divided in the same way, since a pixel's part is a constant part of its segment's share. The
    parts of one segment err together: errors of pixels are not to be added up in quadrature.

    Args:
        values: `(n_players, n_targets)`, attributions or standard errors; NaN stays NaN.
        elements: `(height, width, channels)`, the players of an image whose pixels each belong to one player.

    Returns:
        `(height, width, n_targets)`; over the pixels of a player it sums to the player's value, but for the rounding of
        float64.
    """
    players_of_pixels = elements[..., 0]
    sizes = np.bincount(players_of_pixels.reshape(-1), minlength=len(values))
    # A player without pixels has no share to divide.
    return (values / np.maximum(sizes, 1)[:, np.newaxis])[players_of_pixels]
