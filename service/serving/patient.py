"""Explains many rows for whoever does not wait: one after the other, behind everything that somebody waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from explain.attribution import Estimate
from explain.methods import needs_shap
from models.datasets import Part
from models.rows import ModelInput
from models.signature import Signature
from models.sources.folder import DataFolder
from service.errors import ComputeBusy, ComputeUnavailable, TooManyRowsWaiting
from service.serving.batcher import PADDED_ROWS
from service.serving.compute import ComputeClient
from service.serving.explaining import ExplanationOrder
from service.serving.global_wording import Attributed
from service.serving.reference_client import ReferenceClient
from service.serving.served_model import ServedModel

logger = logging.getLogger("vitrine.explanations")
T = TypeVar("T")

ATTEMPTS = 10
"""How often a row is tried while the compute process is away, or what it waits in is full."""
PAUSE_SECONDS = 3.0


class PatientExplainer:
    """Explains rows in the compute process, on its thread for jobs."""

    def __init__(self, compute: ComputeClient, reference: ReferenceClient, folder: DataFolder) -> None:
        self._compute, self._reference, self._folder = compute, reference, folder

    async def explain(
        self, served: ServedModel, rows: ModelInput, order: ExplanationOrder, progress: Callable[[int], None]
    ) -> list[Estimate]:
        """Explains each row with its even share of the deadline, which counts only the time of its own work.

        The method of the first row is that of all, though prices may change meanwhile.

        Args:
            progress: told how many rows are done, after each.

        Raises:
            MethodDoesNotFit, BudgetTooSmall, ToleranceNotReached: of the first row that meets them.
            ComputeUnavailable, ComputeBusy: when it stays so for half a minute.
        """
        share_ms = order.deadline_ms / len(rows)
        estimates: list[Estimate] = []
        for i, targets in enumerate(order.targets):
            method = estimates[0].method if estimates else order.method
            given = order.given[i : i + 1]
            one = replace(order, targets=(targets,), given=given, deadline_ms=share_ms, method=method)
            estimates += await self._explain_row(served, rows[i : i + 1], one)
            progress(len(estimates))
        return estimates

    async def predict(self, served: ServedModel, rows: ModelInput) -> np.ndarray:
        """Outputs `(n_rows, n_targets)` of the default kind, a few rows at a time: the others take no place in the
        queue, which is that of requests.

        Raises:
            TooManyRowsWaiting, ComputeUnavailable, ComputeBusy: when it stays so for half a minute.
        """
        output = served.signature.outputs[0]
        parts = []
        for start in range(0, len(rows), PADDED_ROWS):
            part = rows[start : start + PADDED_ROWS]
            parts.append(await _insisting(partial(served.evaluate_anew, part, output), "rows of a job are"))
        return np.concatenate(parts)

    async def rows_of(self, served: ServedModel, part: Part, *, max_rows: int, seed: int) -> ModelInput:
        """Rows of the data that a version was built from. Raises `DatasetChanged`."""
        order = self._compute.submit(
            "dataset",
            directory=str(served.artifact.directory),
            part=part,
            max_rows=max_rows,
            seed=seed,
            folder=self._folder,
        )
        return await asyncio.wrap_future(order)

    async def summary(
        self,
        signature: Signature,
        attributed: Attributed,
        estimates: list[Estimate],
        weights: NDArray[np.float64] | None,
    ) -> dict[str, Any]:
        """What the attributions of many rows say together, in words."""
        order = self._compute.submit(
            "summary", signature=signature, attributed=attributed, estimates=estimates, weights=weights
        )
        return await asyncio.wrap_future(order)

    async def _explain_row(self, served: ServedModel, row: ModelInput, order: ExplanationOrder) -> list[Estimate]:
        async def explain() -> list[Estimate]:
            if needs_shap(order.method):
                return await self._reference.explain(served, row, order)
            return await asyncio.wrap_future(self._compute.submit("job", key=served.key, rows=row, order=order))

        return await _insisting(explain, "a row of a job is")


async def _insisting(work: Callable[[], Awaitable[T]], what: str) -> T:
    """The result of some work, tried again while there is no place for it."""
    attempt = 1
    while True:
        try:
            return await work()
        except (ComputeUnavailable, ComputeBusy, TooManyRowsWaiting) as error:
            if attempt == ATTEMPTS:
                raise
            logger.info("%s tried again in %g s: %s", what, PAUSE_SECONDS, error)
        attempt += 1
        await asyncio.sleep(PAUSE_SECONDS)
