"""The attributions of many rows as a Parquet file, one line for each row, target and player."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def parquet_table(
    *,
    row_of: NDArray[np.intp],
    targets: Sequence[str],
    attributions: NDArray[np.float64],
    standard_errors: NDArray[np.float64],
    values: NDArray[np.float64],
    base_values: NDArray[np.float64],
    players: dict[str, Sequence[object]],
    player_values: NDArray[Any] | None,
) -> bytes:
    """A Parquet file with the columns `row`, `target`, those of `players`, `value`, `attribution`, `standard_error`,
    `output` and `base_value`. What was not stated or kept is null.

    Args:
        row_of, targets, values, base_values: `(n_lines,)`, the row, target, output and base output of each line.
        attributions, standard_errors: `(n_lines, n_players)`.
        players: what names each player, `(n_players,)` each: `{"feature": names}`, or `{"y": ..., "x": ...}`.
        player_values: `(n_lines, n_players)`, the players' own values, numbers or strings and None; None where they are
            not kept, or not one each.
    """
    import pyarrow as pa
    from pyarrow import parquet

    n_lines, n_players = attributions.shape
    unstated = np.isnan(standard_errors.reshape(-1))
    columns = {
        "row": pa.array(np.repeat(row_of, n_players)),
        "target": pa.array(np.repeat(np.array(targets, dtype=object), n_players)).dictionary_encode(),
        **{name: pa.array(np.tile(np.array(named), n_lines)) for name, named in players.items()},
        "value": (
            pa.nulls(n_lines * n_players, pa.float32())
            if player_values is None
            else pa.array(player_values.reshape(-1), pa.string() if player_values.dtype == object else pa.float32())
        ),
        "attribution": pa.array(attributions.reshape(-1)),
        "standard_error": pa.array(standard_errors.reshape(-1), mask=unstated),
        "output": pa.array(np.repeat(values, n_players)),
        "base_value": pa.array(np.repeat(base_values, n_players)),
    }
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file, compression="zstd")
    return file.getvalue()
