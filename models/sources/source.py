"""What every kind of file offers once it is opened: columns in batches, or one image or series a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import Fault, UnreadableData
from models.signature import FeatureKind
from models.sources.profile import Format


@dataclass(frozen=True, slots=True)
class WholeFeature:
    """A feature of which each row is an array: an image or a series.

    `chunks()` gives all rows in order, some at a time: arrays of shape `(some, *shape)`. Where images are of several
    sizes, `shape` is `(0, 0, channels)`, and they come one by one.
    """

    name: str
    kind: FeatureKind
    possible: tuple[FeatureKind, ...]
    shape: tuple[int, ...]
    n_rows: int
    chunks: Callable[[], Iterator[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file.

    `batches()` gives the columns as Arrow record batches; where `parses_text`, all of them strings whose meaning is to
    be found out. `unsupported` are columns of types that cannot be read, with what they are. `target` is the column
    that must be the target, if any.
    """

    format: Format
    names: tuple[str, ...]
    batches: Callable[[], Iterator[Any]]
    parses_text: bool
    reading: Mapping[str, Any] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    whole: WholeFeature | None = None
    target: str | None = None
    remarks: tuple[str, ...] = ()


def refused(expected: str, received: str, cure: str = "") -> UnreadableData:
    """A file that cannot be read, as an error to raise."""
    return UnreadableData([Fault("#/file", expected, received, cure)])
