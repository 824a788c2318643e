"""The challenger's copy of live predictions, and how often it agrees with what was answered.

A request that the champion answered leaves a reference to its rows and outputs in a bounded queue, on its way out. One
thread that is niced, and gives way to everything, predicts them with the challenger. When the queue is full the copy is
dropped and counted: a live answer neither waits nor fails for it. Each API process measures its own requests, from its
start, or since either alias last moved.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.errors import in_full
from models.public import told
from models.rows import ModelInput
from service.serving.agreement import NEAR_SPREADS, NotComparable, adapter, distances, same_labels
from service.serving.pool import ModelPool
from service.serving.served_model import ServedModel

logger = logging.getLogger("vitrine.shadow")

MAX_WAITING_ROWS = 4096
NICE = 10


@dataclass
class ShadowTally:
    """What was measured of one pair of versions, since `since` (RFC 3339). All counts are of rows."""

    champion: int
    challenger: int
    since: str
    rows: int = 0
    agreeing: int = 0
    distance: float = 0.0
    dropped: int = 0
    failed: int = 0
    problem: str | None = None

    def to_json(self, task: str) -> dict[str, Any]:
        """`agreement` is the share of rows with the same label, or with values that are near each other; `distance` the
        mean distance of values in spreads."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "since": self.since,
            "rows": self.rows,
            "agreement": self.agreeing / self.rows if self.rows else None,
            "distance": self.distance / self.rows if self.rows and task == "regression" else None,
            "dropped": self.dropped,
            "failed": self.failed,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class _Copy:
    champion: ServedModel
    challenger: ServedModel
    tally: ShadowTally
    rows: ModelInput
    outputs: np.ndarray


class Shadow:
    """Used from the event loop's thread alone, but for the predictions of the challenger.

    Args:
        now: the time as RFC 3339.
    """

    def __init__(self, pool: ModelPool, now: Callable[[], str], max_waiting_rows: int = MAX_WAITING_ROWS) -> None:
        self._pool, self._now, self._limit = pool, now, max_waiting_rows
        self._tallies: dict[str, tuple[tuple[int, ...], ShadowTally]] = {}
        self._waiting: deque[_Copy] = deque()
        self._waiting_rows = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=_give_way)

    def copy(self, served: ServedModel, rows: ModelInput, outputs: np.ndarray) -> None:
        """Takes note of an answer; costs a look-up where the model has no challenger."""
        model = served.record.model
        challenger = self._pool.challenger(model)
        if challenger is None or served is not self._pool.champion(model) or challenger is served:
            return
        # It makes room when its champion does.
        challenger.last_use = served.last_use
        tally = self._tally(model, served, challenger)
        if self._waiting_rows + len(rows) > self._limit:
            tally.dropped += len(rows)
            return
        self._waiting_rows += len(rows)
        self._waiting.append(_Copy(served, challenger, tally, rows, outputs))
        self._arrived.set()

    async def follow(self) -> None:
        """Predicts what was copied, one request after the other, for as long as it is not cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                copy = self._waiting.popleft()
                try:
                    await self._measure(copy)
                except Exception as error:
                    # Whatever a challenger raises is its own affair: it is counted, and live answers have long gone.
                    copy.tally.failed += len(copy.rows)
                    words = str(error) if isinstance(error, NotComparable) else told(error)
                    if copy.tally.problem != words:
                        kind = type(error).__name__
                        logger.warning("the challenger of %s: %s: %s", copy.champion.record.model, kind, in_full(error))
                    copy.tally.problem = words
                finally:
                    self._waiting_rows -= len(copy.rows)
                    del copy  # while nothing comes, it would keep two versions from making room

    def document(self, model: str) -> dict[str, Any] | None:
        """How far challenger and champion of a model agree; None where they are not two."""
        champion, challenger = self._pool.champion(model), self._pool.challenger(model)
        if champion is None or challenger is None or champion is challenger:
            return None
        return self._tally(model, champion, challenger).to_json(champion.signature.task)

    def documents(self) -> dict[str, dict[str, Any]]:
        found = ((model, self.document(model)) for model in self._pool.models())
        return {model: document for model, document in found if document is not None}

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _tally(self, model: str, champion: ServedModel, challenger: ServedModel) -> ShadowTally:
        """Another one whenever an alias has moved, back to where it was too."""
        swaps = self._pool.swaps
        pair = (
            champion.record.version,
            challenger.record.version,
            swaps[model, "champion"],
            swaps[model, "challenger"],
        )
        held = self._tallies.get(model)
        if held is None or held[0] != pair:
            held = self._tallies[model] = (pair, ShadowTally(pair[0], pair[1], self._now()))
        return held[1]

    async def _measure(self, copy: _Copy) -> None:
        signature, theirs = copy.champion.signature, copy.challenger.signature
        rows = adapter(signature, theirs)(copy.rows)
        outputs = await copy.challenger.evaluate_aside(rows, theirs.outputs[0], self._thread)
        tally = copy.tally
        if signature.task == "classification":
            tally.agreeing += same_labels(copy.outputs, outputs, signature.labels, theirs.labels)
        else:
            apart = distances(copy.outputs, outputs, _spread(copy.champion))
            tally.distance += float(apart.sum())
            tally.agreeing += int((apart <= NEAR_SPREADS).sum())
        tally.rows += len(rows)


class ShadowFigures(Collector):
    """The same figures for Prometheus."""

    def __init__(self, shadow: Shadow, registry: CollectorRegistry) -> None:
        self._shadow = shadow
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        documents = self._shadow.documents()
        agreement = GaugeMetricFamily(
            "vitrine_shadow_agreement_ratio",
            "Part of the copied live rows on which the challenger agrees with the champion.",
            labels=["model"],
        )
        for model, document in documents.items():
            if document["agreement"] is not None:
                agreement.add_metric([model], document["agreement"])
        yield agreement
        rows = GaugeMetricFamily(
            "vitrine_shadow_rows",
            "Copies of live rows since an alias last moved, by what became of them.",
            labels=["model", "outcome"],
        )
        for model, document in documents.items():
            for outcome, key in (("predicted", "rows"), ("dropped", "dropped"), ("failed", "failed")):
                rows.add_metric([model, outcome], document[key])
        yield rows


def _spread(champion: ServedModel) -> float:
    signature = champion.signature
    spread = champion.artifact.card["spread"][signature.outputs[0]][signature.target]
    if not spread > 0:
        raise NotComparable("the champion's output has no spread to measure distances in")
    return spread


def _give_way() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
