"""The versions that are loaded, and which of them a name, number or alias means right now."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict

from models.errors import UnknownModel, UnknownVersion
from models.registry import CHAMPION, ModelRecord, Registry
from service.serving.compute import ComputeClient
from service.serving.served_model import ServedModel

logger = logging.getLogger("vitrine.pool")


class ModelPool:
    """Follows the registry: a version that an alias moves to is loaded and warmed before it takes traffic.

    Versions with an alias stay loaded. Others are loaded when asked for by number, and the ones used longest ago
    make room (in-flight requests keep theirs until they are done).
    """

    def __init__(self, registry: Registry, compute: ComputeClient, *, refresh_ms: int, loaded_versions: int) -> None:
        self._registry, self._compute = registry, compute
        self._refresh_seconds, self._limit = refresh_ms / 1000, loaded_versions
        self._known: dict[str, ModelRecord] = {}
        self._aliased: dict[tuple[str, str], ServedModel] = {}
        self._by_number: OrderedDict[tuple[str, int], ServedModel] = OrderedDict()
        self._loading: dict[tuple[str, int], asyncio.Task[ServedModel]] = {}
        self._refreshing = asyncio.Lock()
        self.problems: dict[str, str] = {}
        self.swaps: Counter[tuple[str, str]] = Counter()
        """How often the version of a model's alias gave way to another one, which was loaded."""
        self.refusals: Counter[str] = Counter()
        """How many versions of a model an alias moved to that could not be loaded."""
        self.refreshed = False

    async def follow(self) -> None:
        """Refreshes for as long as it is not cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception:
                # The database is away: what is loaded serves on, and readiness says so.
                if "registry" not in self.problems:
                    logger.warning("the registry cannot be read", exc_info=True)
                self.problems["registry"] = "The registry cannot be read; loaded versions serve on."
            await asyncio.sleep(self._refresh_seconds)

    async def refresh(self) -> None:
        """Takes over what the registry says now."""
        async with self._refreshing:
            self._known = await asyncio.to_thread(self._registry.models)
            self.problems.pop("registry", None)
            wanted = {
                (name, alias): version
                for name, model in self._known.items()
                for alias, version in model.aliases.items()
            }
            for (name, alias), version in wanted.items():
                current = self._aliased.get((name, alias))
                if current is not None and current.record.version == version:
                    continue
                place = f"{name}/{version}"
                try:
                    # The new version is loaded and warm before the old one goes.
                    self._aliased[name, alias] = await self._load(name, version)
                    self.problems.pop(place, None)
                    self.swaps[name, alias] += current is not None
                    logger.info("%s of %s is now version %d", alias, name, version)
                except Exception as error:
                    # Whatever is wrong with one version, the others and the one it would replace serve on.
                    if place not in self.problems:
                        self.refusals[name] += 1
                        logger.error("version %d of %s cannot be served: %s", version, name, error)
                    self.problems[place] = str(error)
            for gone in self._aliased.keys() - wanted.keys():
                del self._aliased[gone]
            self.problems = {
                place: text
                for place, text in self.problems.items()
                if place == "registry" or any(place == f"{name}/{version}" for (name, _), version in wanted.items())
            }
            self._make_room()
            self.refreshed = True

    async def resolve(self, model: str, version: str) -> ServedModel:
        """The served version that a name and a number or alias mean.

        Raises:
            UnknownModel, UnknownVersion: with the names that exist.
            CorruptVersion: when its files cannot be loaded.
        """
        served = self._aliased.get((model, version))
        if served is not None:
            return served
        try:
            return await self._numbered(model, version)
        except (UnknownModel, UnknownVersion):
            # It may have come since the last refresh.
            await self.refresh()
            return self._aliased.get((model, version)) or await self._numbered(model, version)

    async def _numbered(self, model: str, version: str) -> ServedModel:
        record = self._known.get(model)
        if record is None:
            raise UnknownModel(model, list(self._known))
        return await self._load(model, record.resolve(version).version)

    async def _load(self, name: str, version: int) -> ServedModel:
        key = (name, version)
        if key in self._by_number:
            self._by_number.move_to_end(key)
            return self._by_number[key]
        if key not in self._loading:
            record = self._known[name].resolve(str(version))
            self._loading[key] = asyncio.create_task(asyncio.to_thread(ServedModel, record, self._compute))
            self._loading[key].add_done_callback(lambda _: self._loading.pop(key))
        served = await asyncio.shield(self._loading[key])
        self._by_number[key] = served
        self._make_room()
        return served

    def _make_room(self) -> None:
        aliased = {(served.record.model, served.record.version) for served in self._aliased.values()}
        spare = [key for key in self._by_number if key not in aliased]
        for key in spare[: max(0, len(spare) - self._limit)]:
            self._compute.unload(self._by_number.pop(key).key)

    def models(self) -> dict[str, ModelRecord]:
        """What the registry held at the last refresh."""
        return self._known

    def loaded(self, model: str) -> list[int]:
        """The numbers of the loaded versions of a model."""
        return sorted(version for name, version in self._by_number if name == model)

    def champion(self, model: str) -> ServedModel | None:
        """The version of a model that is served by default, if one is loaded."""
        return self._aliased.get((model, CHAMPION))
