"""Answers that are given again: the outputs of rows, and the estimates of explanations, of one version.

Off unless `VITRINE_CACHE_BYTES` is set. A key holds everything that an answer depends on: the version by the hashes of
its files (so that an alias that has moved cannot be answered by what it meant before), the decoded rows by their bytes,
and what was asked of them. What is found is what was computed then, bit for bit; ids, times and records are each
request's own.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explain.attribution import Estimate
from models.artifact import Artifact
from models.rows import ModelInput
from service.serving.explaining import ExplanationOrder

Key = tuple[Any, ...]
Operation = Literal["predict", "explain"]
V = TypeVar("V")
HEADER = b"cache-status"
ENTRY_BYTES = 600
"""What an entry takes beside what it holds: its key with two digests, and its place in the order of use."""


class ResponseCache(Generic[V]):
    """Values by key, the least recently used of which go when they take more than they may.

    Used from the event loop's thread alone.

    Args:
        most_bytes: what all entries may take.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[Key, tuple[V, int]] = OrderedDict()
        self.n_bytes = 0
        self.evictions = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Look-ups by operation and outcome, hit or miss."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, operation: Operation, key: Key) -> V | None:
        """What was kept under a key. The answer of the request that asks says whether there was anything."""
        entry = self._entries.get(key)
        outcome = "miss" if entry is None else "hit"
        self.outcomes[operation, outcome] += 1
        note = _note.get(None)
        if note is not None:
            note[operation] = outcome
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: V) -> None:
        """Keeps a value, which must not be changed any more; one that is larger than the cache is not kept."""
        n_bytes = held_bytes(value) + ENTRY_BYTES
        if n_bytes > self._most_bytes:
            return
        if (former := self._entries.pop(key, None)) is not None:
            self.n_bytes -= former[1]
        self._entries[key] = (value, n_bytes)
        self.n_bytes += n_bytes
        while self.n_bytes > self._most_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.n_bytes -= freed
            self.evictions += 1


def identity_of(artifact: Artifact) -> bytes:
    """What tells a version from every other: the hash of the hashes of its files."""
    return hashlib.sha256(orjson.dumps(artifact.hashes, option=orjson.OPT_SORT_KEYS)).digest()


def prediction_key(identity: bytes, rows: ModelInput, output: str) -> Key:
    return identity, output, _digest(rows)


def explanation_key(identity: bytes, rows: ModelInput, order: ExplanationOrder) -> Key:
    """Of an order that replays nothing."""
    asked = {field.name: getattr(order, field.name) for field in fields(order)}
    return identity, "explanation", _digest(rows), hashlib.sha256(orjson.dumps(asked, option=_AS_KEY)).digest()


_AS_KEY = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def can_be_kept(estimates: Iterable[Estimate]) -> bool:
    """Whether explanations would come out the same again: not those that a deadline cut short.

    They depend on how busy this machine was; the next one may well be better.
    """
    return all(estimate.stop_reason != "deadline" for estimate in estimates)


def held_bytes(value: Any) -> int:
    """What a value takes: its arrays, and those of the dataclasses and lists that hold them."""
    if isinstance(value, np.ndarray):
        return value.nbytes + 112
    if is_dataclass(value):
        return 48 + sum(held_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + sum(map(held_bytes, value))
    return sys.getsizeof(value)


def _digest(rows: ModelInput) -> tuple[tuple[int, ...], str, bytes]:
    return rows.shape, rows.dtype.str, hashlib.sha256(np.ascontiguousarray(rows).data).digest()


# -- what answers and metrics say ------------------------------------------------------------------------------------

_note: ContextVar[dict[str, str]] = ContextVar("cache_note")
"""What was found for the request that this task, or the one that it belongs to, answers."""


class CacheStatus:
    """ASGI middleware: says in `Cache-Status` (RFC 9211) what the cache had for a request. Only where there is one.

    An explanation is said to be a hit where its estimates were, whatever became of the predictions beside them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note: dict[str, str] = {}
        _note.set(note)

        async def send_and_say(message: Message) -> None:
            if note and message["type"] == "http.response.start":
                said = b"hit" if note.get("explain", note.get("predict")) == "hit" else b"fwd=miss"
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, b"vitrine; " + said)]}
            await send(message)

        await self._app(scope, receive, send_and_say)


class CacheFigures(Collector):
    """How full the cache is, and how often it had an answer."""

    def __init__(self, cache: ResponseCache[Any] | None, registry: CollectorRegistry) -> None:
        self._cache = cache
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        cache = self._cache
        requests = CounterMetricFamily(
            "vitrine_cache_requests_total", "Look-ups in the response cache.", labels=["operation", "outcome"]
        )
        for operation in ("predict", "explain"):
            for outcome in ("hit", "miss"):
                requests.add_metric([operation, outcome], cache.outcomes[operation, outcome] if cache else 0)
        yield requests
        text = "Entries that made room for others in the response cache."
        yield CounterMetricFamily("vitrine_cache_evictions_total", text, cache.evictions if cache else 0)
        text = "What the response cache holds."
        yield GaugeMetricFamily("vitrine_cache_bytes", text, cache.n_bytes if cache else 0)
        yield GaugeMetricFamily("vitrine_cache_entries", "Entries of the response cache.", len(cache or ()))
