"""The other forms of a finished global explanation: a table for programs, pictures for people."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from models.encoding.reading import named_value
from models.rows import ModelInput
from models.signature import Signature
from service.records.global_pictures import Plot, global_drawing
from service.records.jobs import ExplanationJob
from service.serving.compute import ComputeClient
from service.serving.global_wording import Attributed
from service.serving.players import identities, series_players
from service.serving.pool import ModelPool

PARQUET = "application/vnd.apache.parquet"


class GlobalForms:
    def __init__(self, pool: ModelPool, compute: ComputeClient) -> None:
        self._pool, self._compute = pool, compute

    async def table(self, job: ExplanationJob, arrays: bytes) -> bytes:
        """A Parquet file: a line for each row, target and player."""
        signature = await self._signature(job)
        attributed = await asyncio.to_thread(Attributed.from_bytes, arrays)
        return await asyncio.wrap_future(self._compute.submit("table", **table_of(signature, attributed)))

    async def picture(
        self, job: ExplanationJob, arrays: bytes, plot: Plot, target: str | None, feature: str | None, **look: Any
    ) -> bytes:
        """A picture: `look` is its width, theme and format.

        Raises:
            InvalidRequest: when the target or the feature does not exist, or must be named, or the plot does not fit.
            InputsNotKept, InputsRedacted: when it shows values that were not kept.
        """
        signature = await self._signature(job)
        attributed = await asyncio.to_thread(Attributed.from_bytes, arrays)
        kind, drawing = global_drawing(job, signature, attributed, plot, target, feature)
        return await asyncio.wrap_future(self._compute.submit(kind, **drawing, **look))

    async def _signature(self, job: ExplanationJob) -> Signature:
        return (await self._pool.resolve(job.model, str(job.version))).signature


def _values(signature: Signature, rows: ModelInput) -> np.ndarray:
    """`(n_rows, n_features)`: the numbers as they are; strings where some are categories, dates or texts."""
    if all(feature.kind in ("numeric", "boolean") for feature in signature.features):
        return rows
    values = np.empty((len(rows), len(signature.features)), dtype=object)
    for i, (feature, place) in enumerate(zip(signature.features, signature.places, strict=True)):
        values[:, i] = [_written(named_value(feature, codes)) for codes in rows[:, place]]
    return values


def _written(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or value != value else str(value)


def table_of(signature: Signature, attributed: Attributed) -> dict[str, Any]:
    """The arguments of `explain.table.parquet_table`."""
    if signature.image:
        height, width = signature.image.shape[:2]
        y, x = np.divmod(np.arange(height * width), width)
        players, values = {"y": y, "x": x}, None
        if attributed.rows is not None and signature.image.shape[2] == 1:
            values = attributed.rows[attributed.row_of].reshape(len(attributed.row_of), -1)
    elif signature.series:
        windows = attributed.attributions.shape[1] // signature.series.shape[1]
        named = identities(series_players(signature.series, {"windows": windows}))
        players = {
            "channel": [each["channel"] for each in named],
            "first_step": [each["window"][0] for each in named],
            "end_step": [each["window"][1] for each in named],
        }
        values = None
    else:
        players = {"feature": list(signature.feature_names)}
        values = None if attributed.rows is None else _values(signature, attributed.rows)[attributed.row_of]
    return {
        "row_of": attributed.row_of,
        "targets": [signature.targets[target] for target in attributed.target_of],
        "attributions": attributed.attributions,
        "standard_errors": attributed.standard_errors,
        "values": attributed.values,
        "base_values": attributed.base_values,
        "players": players,
        "player_values": values,
    }
