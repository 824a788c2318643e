"""Answers that are given again: the outputs of rows, and the estimates of explanations, of one version.

Off unless `VITRINE_CACHE_BYTES` is set. A key holds everything that an answer depends on: the version by the hashes of
its files (so that an alias that has moved cannot be answered by what it meant before), the decoded rows by their bytes,
and what was asked of them. What is found is what was computed then, bit for bit; ids, times and records are each
request's own. Of identical questions at once the first is computed, and the others wait for its answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
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


@dataclass(slots=True)
class CacheUse:
    """What the cache did for a request.

    Attributes:
        nanoseconds: that look-ups, waits for others' computations, and keeping took; what was computed not counted.
    """

    hits: int = 0
    misses: int = 0
    nanoseconds: int = 0

    def note(self, nanoseconds: int, *, is_hit: bool) -> None:
        self.hits += is_hit
        self.misses += not is_hit
        self.nanoseconds += nanoseconds


@dataclass(eq=False, slots=True)
class _Computation(Generic[V]):
    """What is being computed for the first who asked.

    Attributes:
        ended: made by the first other who waits for it. How it ended: with a value, in a list; or without one.
    """

    ended: asyncio.Future[list[V] | Literal["failed", "cancelled"]] | None = None


class ResponseCache(Generic[V]):
    """Values by key, the least recently used of which go when they take more than they may.

    Used from the event loop's thread alone.

    Args:
        most_bytes: what all entries may take.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[Key, tuple[V, int]] = OrderedDict()
        self._computations: dict[Key, _Computation[V]] = {}
        self.n_bytes = 0
        self.evictions = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Look-ups by operation and outcome, hit or miss."""

    def __len__(self) -> int:
        return len(self._entries)

    async def answer(
        self,
        operation: Operation,
        key: Key,
        compute: Callable[[], Awaitable[V]],
        *,
        is_kept: Callable[[V], bool] = lambda _value: True,
    ) -> tuple[V, bool]:
        """What was kept under a key, or what comes of the computation of it that goes on now, or of one begun for it.

        Who waits for another's computation gives up with its own deadline, and takes no harm from the other's end:
        where that was cancelled, the next of those who wait begins it anew for all; where it failed, each computes for
        itself, so that each has its own error. The answer of the request that asks says what it was.

        Args:
            is_kept: whether a value may be given to who asks later. Who waits for it now gets it in any case.

        Returns:
            The value, and whether it was there or on its way: a hit.

        Raises:
            What `compute` raises.
        """
        while True:
            if (entry := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
                return self._found(operation, entry[0])
            if (computation := self._computations.get(key)) is None:
                return await self._computed_for_all(operation, key, compute, is_kept), False
            if computation.ended is None:
                computation.ended = asyncio.get_running_loop().create_future()
            # One who gives up must not take the others along.
            ended = await asyncio.shield(computation.ended)
            if isinstance(ended, list):
                return self._found(operation, ended[0])
            if ended == "failed":
                return await self._computed(operation, key, compute, is_kept), False

    async def _computed_for_all(
        self, operation: Operation, key: Key, compute: Callable[[], Awaitable[V]], is_kept: Callable[[V], bool]
    ) -> V:
        computation = self._computations[key] = _Computation[V]()
        ended: list[V] | Literal["failed", "cancelled"] = "cancelled"
        try:
            value = await self._computed(operation, key, compute, is_kept)
            ended = [value]
        except Exception:
            ended = "failed"
            raise
        finally:
            del self._computations[key]
            if computation.ended is not None:
                computation.ended.set_result(ended)
        return value

    async def _computed(
        self, operation: Operation, key: Key, compute: Callable[[], Awaitable[V]], is_kept: Callable[[V], bool]
    ) -> V:
        self._note(operation, "miss")
        value = await compute()
        if is_kept(value):
            self.put(key, value)
        return value

    def _found(self, operation: Operation, value: V) -> tuple[V, bool]:
        self._note(operation, "hit")
        return value, True

    def _note(self, operation: Operation, outcome: Literal["hit", "miss"]) -> None:
        self.outcomes[operation, outcome] += 1
        if (note := _note.get(None)) is not None:
            note[operation] = outcome

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


def prediction_key(identity: bytes, rows: ModelInput, output: str, engine: str) -> Key:
    """Of rows that are predicted.

    Args:
        engine: what predicts, as precisely as its bits depend on it: a version that is loaded again may have another.
    """
    return identity, engine, output, _digest(rows)


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
