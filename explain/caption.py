"""The words on a picture, and which pictures there are. No matplotlib here: who words them need not import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Theme = Literal["light", "dark"]
PictureFormat = Literal["png", "svg"]
PictureKind = Literal[
    "heatmap", "waterfall", "bars", "tokens", "series", "beeswarm", "importance", "dependence", "tree"
]
PICTURE_KINDS: tuple[PictureKind, ...] = (
    "heatmap",
    "waterfall",
    "bars",
    "tokens",
    "series",
    "beeswarm",
    "importance",
    "dependence",
    "tree",
)


@dataclass(frozen=True, slots=True)
class Caption:
    """The words on a picture of one explanation.

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
class GlobalCaption:
    """The words on a picture of the explanations of a data set.

    Attributes:
        title: of which model and data, e.g. "diabetes v3 over 442 rows of diabetes".
        output: what attributions are measured in, e.g. "progression".
        method: how they were made, e.g. "exact".
        rows: explained.
    """

    title: str
    output: str
    method: str
    rows: int

    @property
    def summary(self) -> str:
        return f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}; {self.method}"


def short(value: Any) -> str:
    """A value as a person would write it: four significant digits."""
    return f"{value:.4g}" if isinstance(value, int | float | np.number) else str(value)
