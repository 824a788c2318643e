"""The versions that are loaded, and which of them a name, number or alias means right now."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

from models.errors import UnknownModel, UnknownVersion, VitrineError
from models.registry import CHALLENGER, CHAMPION, ModelRecord, Registry
from models.traffic import alias_of
from service.errors import ComputeUnavailable, RegistryUnavailable, VersionHasAlias, VersionUnavailable
from service.serving.batcher import Batching
from service.serving.compute import ComputeClient
from service.serving.served_model import ServedModel

logger = logging.getLogger("vitrine.pool")

Place = tuple[str, str]
"""A model and one of its aliases."""
Key = tuple[str, int]
"""A model and the number of one of its versions."""

NICE = 10
LOADERS = 2
"""Versions loaded at once, in threads of their own: predictions and the registry use the others."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the pool waits for what.

    Attributes:
        swap_seconds: a new version with an ONNX export takes over after this long even if the compute process does
            not have it yet: then explanations wait, predictions do not.
        settle_seconds: whoever moved an alias waits this long for the swap.
        refresh_seconds: a request that names what is not known waits this long for the registry.
        longest_pause_seconds: between two attempts to load a version.
    """

    swap_seconds: float = 60
    settle_seconds: float = 30
    refresh_seconds: float = 5
    longest_pause_seconds: float = 60

    def retry_pause(self, failures: int) -> float:
        """Seconds before a version that could not be loaded is tried again: 1, 2, 4, ..."""
        return min(self.longest_pause_seconds, 2.0 ** (failures - 1))


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    count: int
    retry_at: float


class ModelPool:
    """Follows the registry: a version that an alias moves to is loaded and warmed before it takes traffic.

    Warm means warm for everything: the swap also waits for the compute process, so that neither a prediction nor an
    explanation pays for loading. Where a version predicts in this process, a compute process that is slow or dies
    again and again holds the swap up for no longer than `patience.swap_seconds`, and the first version of an alias not
    at all.

    Versions with an alias stay loaded. Others are loaded when asked for by number, and the ones used longest ago
    make room (in-flight requests keep theirs until they are done).
    """

    def __init__(
        self,
        registry: Registry,
        compute: ComputeClient,
        *,
        refresh_ms: int,
        loaded_versions: int,
        patience: Patience | None = None,
        batching: Batching | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._registry, self._compute = registry, compute
        self._refresh_seconds, self._limit = refresh_ms / 1000, loaded_versions
        self._patience, self._batching, self._clock = patience or Patience(), batching or Batching(), clock
        self._known: dict[str, ModelRecord] = {}
        self._aliased: dict[Place, ServedModel] = {}
        self._moves: dict[Place, tuple[int, asyncio.Task[None]]] = {}
        self._by_number: OrderedDict[Key, ServedModel] = OrderedDict()
        # Those that made room but are still used by requests: asked for again, they need not be loaded again.
        self._alive: weakref.WeakValueDictionary[Key, ServedModel] = weakref.WeakValueDictionary()
        self._kept: set[Key] = set()
        self._loading: dict[Key, asyncio.Task[ServedModel]] = {}
        self._failures: dict[Key, _Failure] = {}
        # On Linux niceness belongs to a thread: predictions go before what loads.
        self._loaders = ThreadPoolExecutor(LOADERS, "load", initializer=os.nice, initargs=(NICE,))
        self._refreshing: asyncio.Task[None] | None = None
        self._next_refresh: asyncio.Task[None] | None = None
        self._registry_problem: str | None = None
        self.swaps: Counter[tuple[str, str]] = Counter()
        """How often the version of a model's alias gave way to another one, which was loaded."""
        self.refusals: Counter[str] = Counter()
        """How many versions of a model could not be loaded; those that are tried again are not counted again."""
        self.refreshed = False

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by place: the registry, versions with an alias, the compute process."""
        found = {"registry": self._registry_problem} if self._registry_problem else {}
        for (name, _), version in self._wanted().items():
            if (failure := self._failures.get((name, version))) is not None:
                found[f"{name}/{version}"] = str(failure.error)
        for served in self._aliased.values():
            loading = served.in_compute
            if loading.done() and (error := loading.exception()) is not None:
                place = f"{served.record.model}/{served.record.version}"
                found.setdefault(place, f"explanations that need the compute process fail: {error}")
        if self._compute.problem:
            found["compute"] = self._compute.problem
        return found

    async def follow(self) -> None:
        """Refreshes for as long as it is not cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception:
                # The database is away: what is loaded serves on, and readiness says so.
                if self._registry_problem is None:
                    logger.warning("the registry cannot be read", exc_info=True)
                self._registry_problem = "The registry cannot be read; loaded versions serve on."
            await asyncio.sleep(self._refresh_seconds)

    async def refresh(self) -> None:
        """Learns what the registry says now, and begins to load what is missing.

        Callers at the same time share a reading: one that began after they called.
        """
        if self._refreshing is None:
            self._refreshing = self._begin_refresh(None)
            await asyncio.shield(self._refreshing)
            return
        if self._next_refresh is None:
            self._next_refresh = self._begin_refresh(self._refreshing)
        await asyncio.shield(self._next_refresh)

    def _begin_refresh(self, after: asyncio.Task[None] | None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._refresh(after))
        task.add_done_callback(self._refresh_ended)
        return task

    def _refresh_ended(self, task: asyncio.Task[None]) -> None:
        self._refreshing, self._next_refresh = self._next_refresh, None
        _retrieve(task)

    async def _refresh(self, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        self._known = await asyncio.to_thread(self._registry.models)
        self._registry_problem = None
        wanted = self._wanted()
        for place, version in wanted.items():
            self._begin_move(place, version)
        for gone in self._aliased.keys() - wanted.keys():
            del self._aliased[gone]
        still_there = {(name, record.version) for name, model in self._known.items() for record in model.versions}
        for gone in self._failures.keys() - still_there:
            del self._failures[gone]
        self._make_room()
        self.refreshed = True

    def close(self) -> None:
        """Gives up what is being loaded."""
        for task in [*self._loading.values(), *(task for _, task in self._moves.values())]:
            task.cancel()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    async def settle(self, model: str) -> None:
        """Refreshes, and returns when the moves of this model's aliases are carried out, have failed, or take long."""
        await self.refresh()
        moves = [task for (name, _), (_, task) in self._moves.items() if name == model]
        if moves:
            await asyncio.wait(moves, timeout=self._patience.settle_seconds)

    def is_split(self, model: str) -> bool:
        """Whether requests for a model that name no version go to more than the champion."""
        record = self._known.get(model)
        return record is not None and bool(record.traffic)

    def alias_for(self, model: str, key: str) -> str:
        """The alias that answers such a request, by a model's split.

        An alias whose version could not be loaded leaves its share to the champion: answers name the version.
        """
        alias = alias_of(model, self._known[model].traffic, key)
        return alias if (model, alias) in self._aliased else CHAMPION

    async def resolve(self, model: str, version: str) -> ServedModel:
        """The served version that a name and a number or alias mean.

        Raises:
            UnknownModel, UnknownVersion: with the names that exist.
            CorruptVersion: when its files have changed.
            VersionUnavailable: when it cannot be loaded now.
            RegistryUnavailable: when it is not known, and the registry cannot be asked.
        """
        served = self._aliased.get((model, version))
        if served is not None:
            return served
        try:
            return await self._numbered(model, version)
        except (UnknownModel, UnknownVersion):
            # It may have come since the last refresh.
            await self._refresh_for_request()
            return self._aliased.get((model, version)) or await self._numbered(model, version)

    async def load(self, model: str, version: str) -> ServedModel:
        """As `resolve`; from here on the version does not make room for others until it is unloaded."""
        served = await self.resolve(model, version)
        self._kept.add((served.record.model, served.record.version))
        return served

    async def unload(self, model: str, version: str | None) -> list[int]:
        """Lets go of a version without an alias, or of every one of a model; requests in flight keep theirs.

        Returns:
            The numbers of those that were loaded.

        Raises:
            UnknownModel, UnknownVersion: with the names that exist.
            VersionHasAlias: it is served as long as it has one.
        """
        if model not in self._known:
            await self._refresh_for_request()
        if (record := self._known.get(model)) is None:
            raise UnknownModel(model, list(self._known))
        numbers = self.loaded(model) if version is None else [record.resolve(version).version]
        for number in numbers:
            if aliases := sorted(alias for alias, aliased in record.aliases.items() if aliased == number):
                raise VersionHasAlias(model, number, aliases)
        for number in numbers:
            self._kept.discard((model, number))
        return [number for number in numbers if self._by_number.pop((model, number), None) is not None]

    async def _refresh_for_request(self) -> None:
        try:
            await asyncio.wait_for(self.refresh(), self._patience.refresh_seconds)
        except Exception as error:
            # Whatever the database's driver raises, or the time that is up: the answer is not known.
            logger.warning("the registry could not be asked for a request: %s: %s", type(error).__name__, error)
            raise RegistryUnavailable from None

    async def _numbered(self, model: str, version: str) -> ServedModel:
        record = self._known.get(model)
        if record is None:
            raise UnknownModel(model, list(self._known))
        return await self._load(model, record.resolve(version).version)

    def _wanted(self) -> dict[Place, int]:
        return {
            (name, alias): version for name, model in self._known.items() for alias, version in model.aliases.items()
        }

    # -- moving aliases ------------------------------------------------------------------------------------------

    def _begin_move(self, place: Place, version: int) -> None:
        current = self._aliased.get(place)
        if current is not None and current.record.version == version:
            return
        if place in self._moves and self._moves[place][0] == version:
            return
        failure = self._failures.get((place[0], version))
        if failure is not None and self._clock() < failure.retry_at:
            return
        task = asyncio.create_task(self._move(place, version))
        self._moves[place] = (version, task)
        task.add_done_callback(lambda task: self._moves.pop(place) if self._moves.get(place) == (version, task) else 0)
        task.add_done_callback(_retrieve)

    async def _move(self, place: Place, version: int) -> None:
        """The new version is loaded and warm before the old one goes."""
        name, alias = place
        served = await self._load(name, version)
        if served.needs_compute or place in self._aliased:
            await self._warm_in_compute(served)
        if self._wanted().get(place) != version:
            return  # the alias has moved on meanwhile, or is gone
        self.swaps[place] += place in self._aliased
        self._aliased[place] = served
        self._failures.pop((name, version), None)
        logger.info("%s of %s is now version %d", alias, name, version)
        self._make_room()

    async def _warm_in_compute(self, served: ServedModel) -> None:
        """Waits until the compute process has a version, as far as its predictions depend on it.

        Raises:
            Exception: what was wrong with the version when the compute process loaded it.
        """
        give_up_at = self._clock() + self._patience.swap_seconds
        while True:
            loading = served.in_compute
            if loading.done() and not loading.cancelled():
                error = loading.exception()
                if error is None:
                    return
                if not isinstance(error, ComputeUnavailable) or served.needs_compute:
                    assert isinstance(error, Exception)
                    self._note_failure((served.record.model, served.record.version), error)
                    raise error
                return  # the process's fault, not the version's: predictions need not wait for it
            if not served.needs_compute and (self._compute.is_failing or self._clock() >= give_up_at):
                logger.warning("%s takes over before the compute process has it", served.key)
                return
            arrived = asyncio.wrap_future(loading)
            arrived.add_done_callback(_retrieve)
            await asyncio.wait([arrived], timeout=0.25)

    # -- loading -------------------------------------------------------------------------------------------------

    async def _load(self, name: str, version: int) -> ServedModel:
        key = (name, version)
        if (served := self._by_number.get(key) or self._alive.get(key)) is not None:
            self._by_number[key] = served
            self._by_number.move_to_end(key)
            return served
        failure = self._failures.get(key)
        if failure is not None and self._clock() < failure.retry_at:
            raise self._refusal(key, failure)
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._read(key))
            self._loading[key].add_done_callback(lambda task: (self._loading.pop(key), _retrieve(task)))
        return await asyncio.shield(self._loading[key])

    async def _read(self, key: Key) -> ServedModel:
        record = self._known[key[0]].resolve(str(key[1]))
        try:
            served = await asyncio.get_running_loop().run_in_executor(
                self._loaders, ServedModel, record, self._compute, self._batching
            )
        except Exception as error:
            # Whatever is wrong with one version, the others and the one it would replace serve on.
            raise self._refusal(key, self._note_failure(key, error)) from None
        self._by_number[key] = self._alive[key] = served
        self._make_room()
        return served

    def _note_failure(self, key: Key, error: Exception) -> _Failure:
        error.__traceback__ = error.__context__ = None  # they would hold the half-made version
        count = self._failures[key].count + 1 if key in self._failures else 1
        self.refusals[key[0]] += count == 1
        pause = self._patience.retry_pause(count)
        self._failures[key] = failure = _Failure(error, count, self._clock() + pause)
        logger.error(
            "version %d of %s cannot be served: %s: %s; tried again in %.0f s",
            *reversed(key), type(error).__name__, error, pause,
        )  # fmt: skip
        self._by_number.pop(key, None)
        self._alive.pop(key, None)
        return failure

    def _refusal(self, key: Key, failure: _Failure) -> Exception:
        if isinstance(failure.error, VitrineError):
            # One object, raised many times: its traceback would grow, and hold what it passed through.
            return failure.error.with_traceback(None)
        reason = f"{type(failure.error).__name__}: {failure.error}"
        return VersionUnavailable(f"{key[1]} of {key[0]!r}", reason, max(1.0, failure.retry_at - self._clock()))

    def _make_room(self) -> None:
        kept = {(served.record.model, served.record.version) for served in self._aliased.values()}
        kept |= {(name, version) for (name, _), (version, _) in self._moves.items()}
        spare = [key for key in self._by_number if key not in kept | self._kept]
        for key in spare[: max(0, len(spare) - self._limit)]:
            # The compute process unloads it when the last request that holds it is done.
            del self._by_number[key]

    def models(self) -> dict[str, ModelRecord]:
        """What the registry held at the last refresh."""
        return self._known

    def loaded(self, model: str) -> list[int]:
        """The numbers of the loaded versions of a model."""
        return sorted(version for name, version in self._by_number if name == model)

    def served(self, model: str, version: int) -> ServedModel | None:
        """A version, if it is loaded."""
        return self._by_number.get((model, version))

    def is_loading(self, model: str, version: int) -> bool:
        return (model, version) in self._loading

    def failure(self, model: str, version: int) -> Exception | None:
        """Why a version could not be loaded when that was last tried."""
        failure = self._failures.get((model, version))
        return failure.error if failure is not None else None

    def champion(self, model: str) -> ServedModel | None:
        """The version of a model that is served by default, if one is loaded."""
        return self._aliased.get((model, CHAMPION))

    def challenger(self, model: str) -> ServedModel | None:
        """The version of a model that gets a copy of its live predictions, if one is loaded."""
        return self._aliased.get((model, CHALLENGER))


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Takes a task's error: it has been noted where it was raised, and nobody may be waiting for it."""
    if not task.cancelled():
        task.exception()
