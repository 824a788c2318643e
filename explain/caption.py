"""The words on a picture. Apart from `render.py`, so that who words them need not import matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Theme = Literal["light", "dark"]
PictureFormat = Literal["png", "svg"]


@dataclass(frozen=True, slots=True)
class Caption:
    """The words on a picture.

    Attributes:
        title: what was predicted, e.g. "digits v1: 8 (0.99)".
        output: what attributions are measured in, e.g. "probability of 8".
        method: how they were made, e.g. "expected-gradients, 3,200 evaluations".
    """

    title: str
    output: str
    method: str
    base_value: float
    value: float

    @property
    def summary(self) -> str:
        return f"{short(self.base_value)} on average, {short(self.value)} here; {self.method}"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a waterfall: what it stands for, its attribution, and half of its 95 % interval (NaN: not known)."""

    label: str
    attribution: float
    half_width: float


def describe_heatmap(attributions: NDArray[np.float64], caption: Caption) -> str:
    """A heatmap for those who do not see it. `attributions`: `(height, width)`; lines and columns count from 1."""
    height, width = attributions.shape
    sentences = [f"Heatmap of attributions to the {caption.output} over an image of {width} x {height} pixels."]
    for name, place in (("Most for it", attributions.argmax()), ("Most against it", attributions.argmin())):
        line, column = np.unravel_index(place, attributions.shape)
        share = attributions[line, column]
        if share > 0 if name == "Most for it" else share < 0:
            sentences.append(f"{name}: {share:+.3g} at line {line + 1}, column {column + 1}.")
    return " ".join([*sentences, f"{caption.summary}."])


def describe_waterfall(bars: Sequence[Bar], caption: Caption) -> str:
    """A waterfall for those who do not see it, the largest bar first."""
    shares = [
        f"{bar.label}: {bar.attribution:+.3g}" + (f" (± {bar.half_width:.2g})" if bar.half_width > 0 else "")
        for bar in bars
    ]
    return f"Waterfall of attributions to the {caption.output}. {'; '.join(shares)}. {caption.summary}."


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float | np.number) else str(value)
