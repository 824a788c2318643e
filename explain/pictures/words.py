"""Pictures for those who do not see them: the largest contributions in words, the largest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explain.caption import Caption, GlobalCaption
from explain.pictures.numbers import number, signed
from explain.pictures.rows import Row

MOST_NAMED = 3


def describe_heatmap(
    attributions: NDArray[np.float64], segments: NDArray[np.integer] | None, caption: Caption, *, has_sign: bool
) -> str:
    """`attributions`, `segments`: `(height, width)`; lines and columns count from 1."""
    height, width = attributions.shape
    what = "attributions to" if has_sign else "saliency for"
    sentences = [f"Heatmap of {what} the {caption.output} over an image of {width} x {height} pixels."]
    if segments is None:
        shares = attributions.reshape(-1)
        lines, columns = np.divmod(np.arange(shares.size), width)
        places = [f"line {line + 1}, column {column + 1}" for line, column in zip(lines, columns, strict=True)]
    else:
        numbers, members = np.unique(segments.reshape(-1), return_inverse=True)
        shares = np.bincount(members, weights=attributions.reshape(-1)).astype(np.float64)
        sentences.append(f"It is cut into {len(numbers)} segments.")
        sizes = np.bincount(members)
        lines, columns = (
            np.bincount(members, weights=axis.reshape(-1)) / sizes for axis in np.indices(attributions.shape)
        )
        places = [
            f"the segment around line {line + 1:.0f}, column {column + 1:.0f}"
            for line, column in zip(lines, columns, strict=True)
        ]
    sentences += _strongest(places, shares, "at " if segments is None else "", has_sign=has_sign)
    return " ".join([*sentences, f"{caption.summary}."])


def describe_rows(kind: str, rows: Sequence[Row], caption: Caption) -> str:
    """A waterfall or bars, in their order."""
    shares = "; ".join(_worded(row) for row in rows)
    return f"{kind} of attributions to the {caption.output}. {shares}. {caption.summary}."


def describe_importance(rows: Sequence[Row], caption: GlobalCaption) -> str:
    shares = "; ".join(f"{row.label}: {number(row.attribution)}{_interval(row)}" for row in rows)
    return f"Bars of the mean magnitude of attributions to the {caption.output}. {shares}. {caption.summary}."


def describe_tokens(tokens: Sequence[str], attributions: NDArray[np.float64], caption: Caption) -> str:
    sentences = [f"Text of {len(tokens)} tokens, coloured by attributions to the {caption.output}."]
    quoted = [f'"{token.strip()}"' for token in tokens]
    return " ".join([*sentences, *_strongest(quoted, attributions, "", has_sign=True), f"{caption.summary}."])


def describe_series(
    channels: Sequence[str],
    windows: Sequence[tuple[int, int]],
    attributions: NDArray[np.float64],
    n_steps: int,
    caption: Caption,
) -> str:
    """`attributions`: `(n_windows, n_channels)`."""
    sentences = [
        f"Series of {len(channels)} {'channel' if len(channels) == 1 else 'channels'} and {n_steps} steps, and "
        f"attributions of their {len(windows)} windows to the {caption.output}."
    ]
    places = [f"{channel} at steps {start} to {end - 1}" for start, end in windows for channel in channels]
    return " ".join(
        [*sentences, *_strongest(places, attributions.reshape(-1), "", has_sign=True), f"{caption.summary}."]
    )


def describe_beeswarm(rows: Sequence[tuple[str, NDArray[np.float64]]], caption: GlobalCaption) -> str:
    """`rows`: label and attributions `(n_rows,)` of each feature, in the order drawn."""
    shares = "; ".join(
        f"{label}: {signed(found.min())} to {signed(found.max())}, mean magnitude {number(np.abs(found).mean())}"
        for label, found in rows
    )
    return f"Beeswarm of attributions to the {caption.output}, a dot for each row. {shares}. {caption.summary}."


def describe_dependence(name: str, trend: Sequence[tuple[str, float]], caption: GlobalCaption) -> str:
    """`trend`: values of the feature and the median attribution there."""
    shares = "; ".join(f"at {value}: {signed(middle)}" for value, middle in trend)
    return (
        f"Attributions of {name} to the {caption.output} over its values, a dot for each row. "
        f"Median attribution {shares}. {caption.summary}."
    )


def _strongest(places: Sequence[str], shares: NDArray[np.float64], before: str, *, has_sign: bool) -> list[str]:
    if not shares.any():
        return ["All are zero."]
    order = np.argsort(-shares, kind="stable")
    sides = [("Most for it" if has_sign else "Strongest", [i for i in order[:MOST_NAMED].tolist() if shares[i] > 0])]
    if has_sign:
        sides.append(("Most against it", [i for i in order[::-1][:MOST_NAMED].tolist() if shares[i] < 0]))
    write = signed if has_sign else number
    sentences = []
    for side, named in sides:
        if named:
            found = [(write(float(shares[i])), places[i]) for i in named]
            worded = [f"{share} {before}{place}" if before else f"{place} ({share})" for share, place in found]
            sentences.append(f"{side}: {'; '.join(worded)}.")
    return sentences


def _worded(row: Row) -> str:
    return f"{row.label}: {signed(row.attribution)}{_interval(row)}"


def _interval(row: Row) -> str:
    return f" (± {number(row.half_width)})" if row.half_width > 0 else ""
