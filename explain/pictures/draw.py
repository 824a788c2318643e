"""The pictures by their kinds: what a process that is asked for one calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explain.caption import PictureKind
from explain.pictures.bars import bars, importance
from explain.pictures.beeswarm import beeswarm
from explain.pictures.dependence import dependence
from explain.pictures.heatmap import heatmap
from explain.pictures.series import series
from explain.pictures.tokens import tokens
from explain.pictures.tree import tree
from explain.pictures.waterfall import waterfall

PICTURES: dict[PictureKind, Callable[..., bytes]] = {
    "heatmap": heatmap,
    "waterfall": waterfall,
    "bars": bars,
    "tokens": tokens,
    "series": series,
    "beeswarm": beeswarm,
    "importance": importance,
    "dependence": dependence,
    "tree": tree,
}


def draw(kind: PictureKind, **arguments: Any) -> bytes:
    """The picture of a kind, with the arguments of its function."""
    return PICTURES[kind](**arguments)
