"""Players of a series: windows of time, one player per channel in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explain.errors import InvalidPlayers
from explain.hierarchy import Hierarchy, balanced_tree
from explain.players import Players, WindowPlayer


def window_players(
    row_shape: tuple[int, ...],
    *,
    length: int | None = None,
    n_windows: int | None = None,
    channels: Sequence[str] | None = None,
    feature: str = "series",
) -> Players:
    """One player per window and channel, numbered window by window.

    The hierarchy halves time again and again, and at last parts the channels of a window.

    Args:
        row_shape: `(steps, channels)`.
        length: of a window in steps; the last one is shorter where it does not divide the series.
        n_windows: how many windows, in place of a length; their lengths differ by one step at most.
        channels: their names, where they have any.

    Raises:
        InvalidPlayers: when a window is longer than the series or windows are more than steps, when neither or both of
            length and number are given, or when the names are not one per channel.
    """
    n_steps, n_channels = row_shape
    wanted = length if n_windows is None else n_windows
    if wanted is None or (length is not None and n_windows is not None):
        raise InvalidPlayers("a length of windows or a number of them", "neither" if wanted is None else "both")
    if not 1 <= wanted <= n_steps:
        what = "windows of 1 to {} steps" if n_windows is None else "1 to {} windows"
        raise InvalidPlayers(f"{what.format(n_steps)} for a series of {n_steps} steps", f"{wanted}")
    if channels is not None and len(channels) != n_channels:
        raise InvalidPlayers(f"{n_channels} names of channels", f"{len(channels)}")
    # Either steps of one length, or a number of windows as even as can be.
    starts = np.arange(0, n_steps, wanted) if n_windows is None else np.arange(wanted) * n_steps // wanted
    window_of_step = np.searchsorted(starts, np.arange(n_steps), side="right") - 1
    ends = [*starts[1:].tolist(), n_steps]
    names: Sequence[str | int] = channels or range(n_channels)
    described = tuple(
        WindowPlayer(feature, name, (start, end))
        for start, end in zip(starts.tolist(), ends, strict=True)
        for name in names
    )
    elements = window_of_step[:, np.newaxis] * n_channels + np.arange(n_channels)
    of_windows = [range(window * n_channels, (window + 1) * n_channels) for window in range(len(starts))]
    tree = balanced_tree([balanced_tree(players) for players in of_windows])
    return Players(elements, described, Hierarchy(tree))
