"""The words on a picture. Apart from `render.py`, so that who words them need not import matplotlib."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Theme = Literal["light", "dark"]


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
