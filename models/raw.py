"""Data as it was read, before anything is encoded: columns by kind, in their own units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.signature import FeatureKind


@dataclass(frozen=True, slots=True)
class RawColumn:
    """The values of one column, one a row.

    What `values` holds follows from `kind`:

    - numeric: float64, NaN where missing
    - boolean: float64 of 0 and 1, NaN where missing
    - categorical, text: objects, `str` or None where missing
    - date: `datetime64[ms]` in UTC, NaT where missing
    - image: float32 `(n_rows, height, width, channels)`, in the data set's own units
    - series: float32 `(n_rows, steps, channels)`, NaN where missing
    """

    kind: FeatureKind
    values: NDArray[Any]
    scale: tuple[float, float] | None = None
    """What the pixels of an image may be, from lowest to highest."""

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Per row, whether the value is missing. An image or a series is never missing as a whole."""
        if self.kind in ("categorical", "text"):
            return np.array([value is None for value in self.values], dtype=bool)
        if self.kind in ("image", "series"):
            return np.zeros(len(self.values), dtype=bool)
        return np.isnat(self.values) if self.kind == "date" else np.isnan(self.values)


@dataclass(frozen=True, slots=True)
class RawData:
    """Every column of a data set by name, the target too, and what is known of the whole.

    `digest` is the SHA-256 of the file it was read from. `row_digests` are the SHA-256 of each row's whole content as
    it was read: they decide about its part, and change neither with the order of the columns nor with the kinds that a
    specification gives them.
    """

    columns: Mapping[str, RawColumn]
    n_rows: int
    digest: str
    row_digests: tuple[bytes, ...]
