"""Whether a row's value depends on how many rows are put through the network with it, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.rows import ModelInput

SIZES = (1, 2, 3, 7, 8, 32, 64, 256, 512, 1024, 4096)
"""Rows in a call: those that requests have, and the slices of explanations."""

PROBES = 8
"""Rows that are followed through every size."""

_ELEMENTS = 16 * 2**20


@dataclass(frozen=True, slots=True)
class BatchInvariance:
    """What was measured on the engine that serves, with the options it serves with.

    Attributes:
        invariant: every probed row's every output had the same bits in every call.
        sizes: rows in the calls that were made.
        threads: of the engine; 0 where it decides itself.
        max_difference: per output, the largest difference between two values of a row, in the output's units.
    """

    invariant: bool
    sizes: tuple[int, ...]
    threads: tuple[int, ...]
    max_difference: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_invariance(
    calls: Mapping[int, Mapping[str, Callable[[ModelInput], np.ndarray]]],
    rows: ModelInput,
    *,
    largest_call: int = max(SIZES),
) -> BatchInvariance:
    """Puts the same rows through calls of many sizes: first, in the middle and last, among other neighbours.

    Args:
        calls: by number of threads, per output a function `(n_rows, ...)` to `(n_rows, n_targets)`.
        rows: at least one row, as the version meets them; probes and neighbours are taken from them.
        largest_call: rows of the largest call that is ever made.
    """
    row_elements = int(np.prod(rows.shape[1:]))
    largest_size = min(largest_call, _ELEMENTS // row_elements)
    sizes = tuple(size for size in SIZES if size == 1 or size <= largest_size)
    probes = rows[np.linspace(0, len(rows) - 1, min(PROBES, len(rows)), dtype=int)]
    first = next(iter(calls.values()))
    differences = {}
    invariant = True
    for output in first:
        expected = np.concatenate([first[output](probe[np.newaxis]) for probe in probes])
        low, high = expected.astype(np.float64), expected.astype(np.float64)
        for by_output in calls.values():
            for size in sizes:
                for batch, places in _batches(probes, rows, size):
                    found = by_output[output](batch)[places]
                    wanted = expected[: len(places)]
                    invariant &= found.tobytes() == wanted.tobytes()
                    low[: len(places)] = np.fmin(low[: len(places)], found)
                    high[: len(places)] = np.fmax(high[: len(places)], found)
        with np.errstate(invalid="ignore"):
            spans = (high - low)[np.isfinite(expected)]
        differences[output] = float(spans.max(initial=0.0))
    return BatchInvariance(invariant, sizes, tuple(calls), differences)


def _batches(probes: ModelInput, rows: ModelInput, size: int) -> list[tuple[ModelInput, np.ndarray]]:
    """Batches of a size that hold the probes, with their places."""
    if size < len(probes) * 2:
        # Too small for all probes: as many as fit, once as they are and once turned round.
        few = np.resize(np.arange(len(probes)), size)
        places = np.arange(min(size, len(probes)))
        return [(probes[few], places), (probes[few][::-1], size - 1 - places)]
    # Some first, some in the middle, some last; the others are neighbours.
    first, middle, last = np.array_split(np.arange(len(probes)), 3)
    places = np.concatenate([first, size // 2 + np.arange(len(middle)), size - len(last) + np.arange(len(last))])
    batch = rows[np.resize(np.arange(len(rows)), size)]
    batch[places] = probes
    return [(batch, places)]
