"""Attributions of many rows as Parquet."""

from __future__ import annotations

import io

import numpy as np
from pyarrow import parquet

from explain.table import parquet_table


def test_a_table_has_a_line_for_each_row_target_and_player() -> None:
    content = parquet_table(
        row_of=np.array([0, 1]),
        targets=["yes", "no"],
        attributions=np.array([[1.0, 2.0], [3.0, 4.0]]),
        standard_errors=np.array([[0.1, np.nan], [0.0, 0.2]]),
        values=np.array([5.0, 6.0]),
        base_values=np.array([2.0, -1.0]),
        players={"feature": ["age", "bmi"]},
        player_values=np.array([[30, 22.5], [40, 25]], np.float32),
    )

    table = parquet.read_table(io.BytesIO(content)).to_pydict()

    assert {
        "row": [0, 0, 1, 1],
        "target": ["yes", "yes", "no", "no"],
        "feature": ["age", "bmi", "age", "bmi"],
        "value": [30.0, 22.5, 40.0, 25.0],
        "attribution": [1.0, 2.0, 3.0, 4.0],
        "standard_error": [0.1, None, 0.0, 0.2],
        "output": [5.0, 5.0, 6.0, 6.0],
        "base_value": [2.0, 2.0, -1.0, -1.0],
    } == table


def test_values_that_are_not_kept_are_null_and_pixels_are_named_by_their_places() -> None:
    content = parquet_table(
        row_of=np.array([0]),
        targets=["8"],
        attributions=np.zeros((1, 2)),
        standard_errors=np.zeros((1, 2)),
        values=np.zeros(1),
        base_values=np.zeros(1),
        players={"y": np.array([0, 0]), "x": np.array([0, 1])},
        player_values=None,
    )

    table = parquet.read_table(io.BytesIO(content)).to_pydict()

    assert ([None, None], [0, 0], [0, 1]) == (table["value"], table["y"], table["x"])
