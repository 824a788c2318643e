"""The API process's side of the process for shap's explainers: started when one is asked for, ended when none is."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from pathlib import Path
from time import monotonic

from explain.attribution import Estimate
from models.rows import ModelInput
from service.serving.compute import ComputeClient
from service.serving.explaining import ExplanationOrder
from service.serving.served_model import ServedModel

IDLE_SECONDS = 300.0
"""TensorFlow and shap take about a gigabyte: it is given back after so long without an order."""
LOOK_SECONDS = 5.0
LOADED_VERSIONS = 4


class ReferenceClient:
    """Explains with shap, in a process of its own that nothing else waits for.

    It is looked after as the compute process is: a process that dies is replaced, and what it did is tried once more.

    Args:
        idle_seconds: how long the process stays without an order.
    """

    def __init__(self, log: Path | None, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._log, self._idle_seconds = log, idle_seconds
        self._client: ComputeClient | None = None
        self._loaded: OrderedDict[str, None] = OrderedDict()
        # Orders that have no answer yet, by the key of their version.
        self._working: Counter[str] = Counter()
        self._idle_since = 0.0

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return self._client.pid if self._client else None

    async def explain(self, served: ServedModel, rows: ModelInput, order: ExplanationOrder) -> list[Estimate]:
        """Explains rows with one of shap's explainers.

        Raises:
            MethodDoesNotFit, BudgetTooSmall, ToleranceNotReached: as the order says.
            ComputeUnavailable: when the process died over it twice.
        """
        self._working[served.key] += 1
        try:
            client = self._running()
            self._load(client, served)
            return await asyncio.wrap_future(client.submit("explain", key=served.key, rows=rows, order=order))
        finally:
            self._working[served.key] -= 1
            self._idle_since = monotonic()

    async def rest_when_idle(self) -> None:
        """Ends the process whenever it has had nothing to do for long enough; runs until it is cancelled."""
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._idle_seconds))
            if self._client and not self._working.total() and monotonic() - self._idle_since >= self._idle_seconds:
                idle, self._client = self._client, None
                self._loaded.clear()
                self._working.clear()
                await asyncio.to_thread(idle.close)

    def close(self) -> None:
        """Ends the process; orders that are waiting fail."""
        if self._client is not None:
            self._client.close()

    def _running(self) -> ComputeClient:
        if self._client is None:
            self._client = ComputeClient(self._log, module="service.serving.reference_process")
            self._client.start()
        return self._client

    def _load(self, client: ComputeClient, served: ServedModel) -> None:
        """Has a version loaded there, and given up those that were not asked for the longest and are not at work."""
        if served.key not in self._loaded:
            client.load(served.key, served.artifact.directory)
        self._loaded[served.key] = None
        self._loaded.move_to_end(served.key)
        idle = [key for key in self._loaded if not self._working[key]]
        for key in idle[: max(len(self._loaded) - LOADED_VERSIONS, 0)]:
            del self._loaded[key], self._working[key]
            client.unload(key)
