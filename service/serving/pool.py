"""The versions that are loaded, and which of them a name, number or alias means right now."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from models.errors import UnknownModel, UnknownVersion
from models.registry import CHALLENGER, CHAMPION, ModelRecord, Registry, VersionRecord
from models.traffic import alias_of
from service.errors import RegistryUnavailable, VersionHasAlias, VersionPreloaded
from service.serving.batcher import Batching
from service.serving.cache import ResponseCache
from service.serving.choosing import EngineRules
from service.serving.compute import ComputeClient
from service.serving.failures import Failure, Failures, Key, Patience
from service.serving.loaders import Loaders
from service.serving.memory import expected_bytes, give_back_freed
from service.serving.preload import Preload, in_words
from service.serving.residents import Residents
from service.serving.served_model import ServedModel
from service.serving.sharing import SharedCall, retrieve
from service.serving.warming import warm_in_compute

logger = logging.getLogger("vitrine.pool")

Place = tuple[str, str]
"""A model and one of its aliases."""


class ModelPool:
    """Follows the registry: a version that an alias moves to is loaded and warmed before it takes traffic.

    Warm means warm for everything: the swap also waits for the compute process, so that neither a prediction nor an
    explanation pays for loading. Where a version predicts in this process, a compute process that is slow or dies
    again and again holds the swap up for no longer than `patience.swap_seconds`, and the first version of an alias not
    at all.

    What `preload` names is loaded first and stays. Every other version is loaded when it is first asked for, or, where
    `preload` says so, as long as there is room; when versions take more memory than they may, the ones used longest ago
    make room (in-flight requests keep theirs until they are done). Of versions without an alias a few stay.

    Args:
        loaded_versions: those without an alias that stay loaded.
        memory_bytes: what all versions may take, in this process and in the compute process together.
    """

    def __init__(
        self,
        registry: Registry,
        compute: ComputeClient,
        *,
        refresh_ms: int,
        loaded_versions: int,
        memory_bytes: int,
        preload: Preload,
        patience: Patience | None = None,
        batching: Batching | None = None,
        cache: ResponseCache[Any] | None = None,
        rules: EngineRules | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._registry, self._compute = registry, compute
        self._refresh_seconds, self._most_spare, self._preload = refresh_ms / 1000, loaded_versions, preload
        self._patience, self._batching, self._clock = patience or Patience(), batching or Batching(), clock
        self._failures = Failures(self._patience, clock)
        self._rules = rules
        self._known: dict[str, ModelRecord] = {}
        self._aliased: dict[Place, ServedModel] = {}
        self._moves: dict[Place, tuple[int, asyncio.Task[None]]] = {}
        self._residents, self._cache = Residents(memory_bytes, self._let_go, clock), cache
        self._kept: set[Key] = set()
        self._loading: dict[Key, asyncio.Task[ServedModel]] = {}
        self._loaders = Loaders()
        self.refresh = SharedCall(self._refresh)
        """Learns what the registry says now, and begins to load what is missing."""
        self._registry_problem: str | None = None
        self.swaps: Counter[tuple[str, str]] = Counter()
        """How often the version of a model's alias gave way to another one, which was loaded."""
        self.loads: Counter[str] = Counter()
        """How many versions of a model were loaded."""
        self.load_seconds = 0.0
        """What that took, with the wait for room."""
        self.refreshed = False

    @property
    def refusals(self) -> Counter[str]:
        """How many versions of a model could not be loaded; those that are tried again are not counted again."""
        return self._failures.refusals

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by place: the registry, versions with an alias, the compute process."""
        found = {"registry": self._registry_problem} if self._registry_problem else {}
        for name, version in {(name, version) for (name, _), version in self._wanted().items()} | self._pinned():
            if (failure := self._failures.get((name, version))) is not None:
                found[f"{name}/{version}"] = failure.reason
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

    async def _refresh(self) -> None:
        self._known = await asyncio.to_thread(self._registry.models)
        self._registry_problem = None
        wanted = self._wanted()
        pinned = self._preload.pinned(self._known)
        # Champions first: what there is room for is theirs.
        for place, version in sorted(wanted.items(), key=lambda move: move[0][1] != CHAMPION):
            if place in self._aliased or (place[0], version) in pinned:
                self._begin_move(place, version)
            elif self._preload.everything or (place[1] == CHALLENGER and (place[0], CHAMPION) in self._aliased):
                # Nobody asks for a challenger: it gets copies of what its champion is asked.
                self._begin_move(place, version, if_room=True)
        for key in pinned - {(name, version) for (name, _), version in wanted.items()}:
            self._begin_load(key)
        for gone in self._aliased.keys() - wanted.keys():
            del self._aliased[gone]
        still_there = {(name, record.version) for name, model in self._known.items() for record in model.versions}
        self._failures.keep_only(still_there)
        self._kept &= still_there
        for deleted in [key for key in self._residents if key not in still_there]:
            self._residents.drop(deleted)
        self._settle_memory()
        self.refreshed = True

    def close(self) -> None:
        """Gives up what is being loaded."""
        for task in [*self._loading.values(), *(task for _, task in self._moves.values())]:
            task.cancel()
        self._loaders.close()

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

        An alias whose version is not loaded, or could not be, leaves its share to the champion until it is: answers
        name the version.
        """
        alias = alias_of(model, self._known[model].traffic, key)
        if (model, alias) in self._aliased:
            return alias
        if (version := self._known[model].aliases.get(alias)) is not None:
            self._begin_move((model, alias), version)
        return CHAMPION

    async def resolve(self, model: str, version: str) -> ServedModel:
        """The served version that a name and a number or alias mean.

        Raises:
            UnknownModel, UnknownVersion: with the names that exist.
            CorruptVersion: when its files have changed.
            VersionUnavailable, VersionTooLarge, NoRoomForVersion: when it cannot be loaded now.
            RegistryUnavailable: when it is not known, and the registry cannot be asked.
        """
        served = self._aliased.get((model, version))
        if served is not None:
            return self._residents.touch(served)
        try:
            return await self._find(model, version)
        except (UnknownModel, UnknownVersion):
            # It may have come since the last refresh.
            await self._refresh_for_request()
            return self._aliased.get((model, version)) or await self._find(model, version)

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
            VersionPreloaded: the settings name it.
        """
        if model not in self._known:
            await self._refresh_for_request()
        if (record := self._known.get(model)) is None:
            raise UnknownModel(model, list(self._known))
        numbers = self.loaded(model) if version is None else [record.resolve(version).version]
        for number in numbers:
            if aliases := sorted(alias for alias, aliased in record.aliases.items() if aliased == number):
                raise VersionHasAlias(model, number, aliases)
            if (model, number) in self._preload.pinned(self._known):
                raise VersionPreloaded(model, number)
        for number in numbers:
            self._kept.discard((model, number))
        return [number for number in numbers if self._residents.drop((model, number))]

    async def _refresh_for_request(self) -> None:
        try:
            await asyncio.wait_for(self.refresh(), self._patience.refresh_seconds)
        except Exception as error:
            # Whatever the database's driver raises, or the time that is up: the answer is not known.
            logger.warning("the registry could not be asked for a request: %s: %s", type(error).__name__, error)
            raise RegistryUnavailable from None

    async def _find(self, model: str, version: str) -> ServedModel:
        record = self._known.get(model)
        if record is None:
            raise UnknownModel(model, list(self._known))
        number = record.resolve(version).version
        if version in record.aliases:
            # From here on it is followed, as those that were loaded before they were asked for.
            self._begin_move((model, version), number)
        return await self._load(model, number)

    def _wanted(self) -> dict[Place, int]:
        return {
            (name, alias): version for name, model in self._known.items() for alias, version in model.aliases.items()
        }

    # -- moving aliases ------------------------------------------------------------------------------------------

    def _begin_move(self, place: Place, version: int, *, if_room: bool = False) -> None:
        current = self._aliased.get(place)
        if current is not None and current.record.version == version:
            return
        if place in self._moves and self._moves[place][0] == version:
            return
        if self._failures.pausing((place[0], version)) is not None:
            return
        task = asyncio.create_task(self._move(place, version, if_room=if_room))
        self._moves[place] = (version, task)
        task.add_done_callback(lambda task: self._moves.pop(place) if self._moves.get(place) == (version, task) else 0)
        task.add_done_callback(retrieve)

    async def _move(self, place: Place, version: int, *, if_room: bool) -> None:
        """The new version is loaded and warm before the old one goes, where there is memory for both."""
        name, alias = place
        if if_room and not await self._has_room((name, version)):
            return
        try:
            served = await self._load(name, version)
        finally:
            self._residents.release((name, version))
        if served.needs_compute or place in self._aliased:
            await self._warm(served)
        if self._wanted().get(place) != version:
            return  # the alias has moved on meanwhile, or is gone
        self.swaps[place] += place in self._aliased
        self._aliased[place] = served
        self._failures.forget((name, version))
        logger.info("%s of %s is now version %d", alias, name, version)
        self._settle_memory()

    async def _warm(self, served: ServedModel) -> None:
        patience_seconds = self._patience.swap_seconds
        try:
            await warm_in_compute(served, self._compute, patience_seconds=patience_seconds, clock=self._clock)
        except Exception as error:
            # Whatever the compute process met in it: the version before it serves on.
            self._note_failure((served.record.model, served.record.version), error)
            raise

    # -- loading -------------------------------------------------------------------------------------------------

    def _begin_load(self, key: Key) -> None:
        if key in self._residents:
            self._failures.forget(key)
        elif self._failures.pausing(key) is None:
            self._loading_of(key)

    async def _load(self, name: str, version: int) -> ServedModel:
        key = (name, version)
        if (served := self._residents.use(key)) is not None:
            return served
        if (failure := self._failures.pausing(key)) is not None:
            raise self._failures.refusal(key, failure)
        return await asyncio.shield(self._loading_of(key))

    def _loading_of(self, key: Key) -> asyncio.Task[ServedModel]:
        """The one load of a version that all who ask for it wait for."""
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._read(key))
            self._loading[key].add_done_callback(lambda task: (self._loading.pop(key), retrieve(task)))
        return self._loading[key]

    async def _read(self, key: Key) -> ServedModel:
        started = self._clock()
        record = self._record(key)
        try:
            expected = await self._loaders.run(expected_bytes, Path(record.directory))
            await self._residents.make_room(key, expected, self._pinned)
            # Handed over in a list: the future of a thread's work is in a cycle with itself, and its result would stay
            # until the collector comes by, whoever makes room.
            made: list[ServedModel] = []
            surroundings = (self._compute, self._batching, self._cache, self._rules, self._loaders.open)
            await self._loaders.run(lambda: made.append(ServedModel(record, *surroundings)))
            served = made.pop()
            self._residents.add(key, served)
        except Exception as error:
            # Whatever is wrong with one version, the others and the one it would replace serve on.
            raise self._failures.refusal(key, self._note_failure(key, error)) from None
        finally:
            self._residents.release(key)
        self.loads[key[0]] += 1
        self.load_seconds += self._clock() - started
        self._give_back()
        self._settle_memory()
        return served

    async def _has_room(self, key: Key) -> bool:
        """Whether a version can be loaded without another one making room; then its memory is promised.

        One that is too large for any room is to be tried, so that it is said.
        """
        if key in self._residents or key in self._loading:
            return True
        expected = await self._loaders.run(expected_bytes, Path(self._record(key).directory))
        expected = self._residents.expects(key, expected)
        return self._residents.reserve(key, expected) or expected > self._residents.budget_bytes

    def _record(self, key: Key) -> VersionRecord:
        """What the registry held of a version at the last refresh. Raises `UnknownModel`, `UnknownVersion`."""
        model, version = key
        if model not in self._known:
            raise UnknownModel(model, list(self._known))
        return self._known[model].resolve(str(version))

    def _note_failure(self, key: Key, error: Exception) -> Failure:
        self._residents.disown(key)
        return self._failures.note(key, error)

    def _pinned(self) -> set[Key]:
        """What makes no room: versions that are named, that are kept, and that an alias is moving to."""
        moving = {(name, version) for (name, _), (version, _) in self._moves.items()}
        return self._preload.pinned(self._known) | self._kept | moving

    def _settle_memory(self) -> None:
        with_alias = {(served.record.model, served.record.version) for served in self._aliased.values()}
        if self._residents.settle(self._pinned(), with_alias, self._most_spare):
            self._give_back()

    def _give_back(self) -> None:
        # Not in a thread that is niced: it holds locks of the heap, which predictions need too.
        asyncio.get_running_loop().run_in_executor(None, give_back_freed)

    def _let_go(self, key: Key) -> None:
        """Aliases of a version that made room are looked up again with the next request."""
        for place, served in [*self._aliased.items()]:
            if (served.record.model, served.record.version) == key:
                del self._aliased[place]
        logger.info("version %d of %s made room", key[1], key[0])

    # -- what there is -------------------------------------------------------------------------------------------

    def unserved(self) -> dict[str, bool]:
        """What readiness waits for, in words, and whether it was tried and failed."""
        found: dict[str, bool] = {}
        waited = [*self._preload.named]
        if self._preload.everything:
            # One that there is no room for is loaded when it is asked for: nobody waits for that.
            waited += [
                place
                for place, version in self._wanted().items()
                if place[1] == CHAMPION
                and (place in self._aliased or place in self._moves or self._failures.get((place[0], version)))
            ]
        for model, version in dict.fromkeys(waited):
            served = self._aliased.get((model, version)) or self._numbered(model, version)
            if served is None or (served.needs_compute and not served.is_in_compute):
                failed = (key := self._key_of(model, version)) is not None and self._failures.get(key) is not None
                found[in_words(model, version)] = failed
        return found

    def _key_of(self, model: str, version: str) -> Key | None:
        try:
            return model, self._known[model].resolve(version).version
        except (KeyError, UnknownVersion):
            return None

    def _numbered(self, model: str, version: str) -> ServedModel | None:
        return self._residents.peek((model, int(version))) if version.isdecimal() else None

    def models(self) -> dict[str, ModelRecord]:
        """What the registry held at the last refresh."""
        return self._known

    def loaded(self, model: str) -> list[int]:
        """The numbers of the loaded versions of a model."""
        return sorted(version for name, version in self._residents if name == model)

    def served(self, model: str, version: int) -> ServedModel | None:
        """A version, if it is loaded."""
        return self._residents.peek((model, version))

    def memory_bytes(self, model: str) -> int:
        """What the loaded versions of a model take, in this process and in the compute process."""
        return sum(self._residents.bytes_of((model, version)) or 0 for version in self.loaded(model))

    @property
    def residents(self) -> Residents:
        return self._residents

    def is_pinned(self, model: str, version: int) -> bool:
        """Whether a version stays loaded."""
        return (model, version) in self._preload.pinned(self._known) | self._kept

    def is_loading(self, model: str, version: int) -> bool:
        return (model, version) in self._loading

    def failure(self, model: str, version: int) -> str | None:
        """Why a version could not be loaded when that was last tried."""
        failure = self._failures.get((model, version))
        return failure.reason if failure is not None else None

    def champion(self, model: str) -> ServedModel | None:
        """The version of a model that is served by default, if one is loaded."""
        return self._aliased.get((model, CHAMPION))

    def challenger(self, model: str) -> ServedModel | None:
        """The version of a model that gets a copy of its live predictions, if one is loaded."""
        return self._aliased.get((model, CHALLENGER))
