"""The versions that are loaded, the memory they take, and which of them make room for others."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from service.errors import NoRoomForVersion, VersionTooLarge
from service.serving.failures import Key
from service.serving.served_model import ServedModel

ROOM_SECONDS = 10.0
"""How long a load waits for requests in flight on versions that made room for it."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A loaded version. Attributes: last_use: a number that rises with each use of any version."""

    key: Key
    n_bytes: int
    last_use: int
    pinned: bool


def least_recently_used(tenants: Iterable[Tenant], wanted_bytes: int) -> list[Key] | None:
    """The versions that go so that so many bytes are free: the ones used longest ago, and no more than it takes.

    None where all that may go would not suffice: then none goes.
    """
    going: list[Key] = []
    for tenant in sorted((tenant for tenant in tenants if not tenant.pinned), key=lambda tenant: tenant.last_use):
        if wanted_bytes <= 0:
            break
        going.append(tenant.key)
        wanted_bytes -= tenant.n_bytes
    return going if wanted_bytes <= 0 else None


def surplus(spare: Sequence[Tenant], most: int) -> list[Key]:
    """Of versions that nothing but their use holds, those beyond so many: the ones used longest ago."""
    in_order = sorted(spare, key=lambda tenant: tenant.last_use)
    return [tenant.key for tenant in in_order[: max(0, len(in_order) - most)]]


class Residents:
    """Used from the event loop's thread alone.

    A version that makes room takes no new requests. Those in flight keep it, and its memory counts until the last of
    them is done; asked for again before, it is taken up again.

    Args:
        budget_bytes: what all versions may take, in this process and in the compute process together.
        let_go: is told of each version that makes room, and must not hold it any more.
        clock: monotonic seconds.
    """

    def __init__(self, budget_bytes: int, let_go: Callable[[Key], None], clock: Callable[[], float]) -> None:
        self.budget_bytes, self._let_go, self._clock = budget_bytes, let_go, clock
        self._held: dict[Key, ServedModel] = {}
        # Those that made room but are still used by requests.
        self._alive: weakref.WeakValueDictionary[Key, ServedModel] = weakref.WeakValueDictionary()
        self._promised: dict[Key, int] = {}
        # What a version took when it was loaded last: known before it is loaded again.
        self._sizes: dict[Key, int] = {}
        self._uses = itertools.count(1)
        self.evictions: Counter[str] = Counter()
        """How many versions of a model made room for others."""

    def __iter__(self) -> Iterator[Key]:
        return iter(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def peek(self, key: Key) -> ServedModel | None:
        """A loaded version, without using it."""
        return self._held.get(key)

    def use(self, key: Key) -> ServedModel | None:
        """A version that is loaded, or that requests still hold."""
        served = self._held.get(key) or self._alive.get(key)
        if served is not None:
            self._held[key] = served
            served.last_use = next(self._uses)
        return served

    def touch(self, served: ServedModel) -> ServedModel:
        """Notes that a version is used."""
        served.last_use = next(self._uses)
        return served

    def bytes_of(self, key: Key) -> int | None:
        """What a loaded version takes; None where it is not loaded."""
        served = self._held.get(key)
        return served.memory_bytes if served is not None else None

    # -- memory --------------------------------------------------------------------------------------------------

    @property
    def taken_bytes(self) -> int:
        """What loaded versions take, what those take that made room and are still in use, and what is promised."""
        return sum(served.memory_bytes for served in self._alive.values()) + sum(self._promised.values())

    def expects(self, key: Key, expected_bytes: int) -> int:
        return max(expected_bytes, self._sizes.get(key, 0))

    def reserve(self, key: Key, expected_bytes: int) -> bool:
        """Promises a version its memory, if it is free."""
        expected_bytes = self.expects(key, expected_bytes)
        fits = self.taken_bytes + expected_bytes <= self.budget_bytes
        if fits:
            self._promised[key] = expected_bytes
        return fits

    def release(self, key: Key) -> None:
        """Takes back what was promised."""
        self._promised.pop(key, None)

    async def make_room(self, key: Key, expected_bytes: int, pinned: Callable[[], Collection[Key]]) -> None:
        """Promises a version its memory, once others have made room where that is needed.

        Raises:
            VersionTooLarge: when it takes more than there is for all.
            NoRoomForVersion: when the others stay, or are in use for long.
        """
        if key in self._promised:
            return
        needed = self.expects(key, expected_bytes)
        if needed > self.budget_bytes:
            raise VersionTooLarge(key, needed, self.budget_bytes)
        give_up_at = self._clock() + ROOM_SECONDS
        while not self.reserve(key, needed):
            tenants = self._tenants(pinned())
            staying = sum(tenant.n_bytes for tenant in tenants) + sum(self._promised.values())
            excess = staying + needed - self.budget_bytes
            going = least_recently_used(tenants, excess)
            if going:
                for each in going:
                    self.evict(each)
                continue
            passing = self.taken_bytes - sum(tenant.n_bytes for tenant in tenants)
            if passing == 0 or self._clock() >= give_up_at:
                raise NoRoomForVersion(key, needed, self.budget_bytes, sum(t.n_bytes for t in tenants if t.pinned))
            await asyncio.sleep(0.02)

    def add(self, key: Key, served: ServedModel) -> None:
        """Takes in a version that was loaded. Raises `VersionTooLarge` when it turns out to be."""
        self.release(key)
        self._sizes[key] = served.memory_bytes
        if served.memory_bytes > self.budget_bytes:
            raise VersionTooLarge(key, served.memory_bytes, self.budget_bytes)
        self._held[key] = self._alive[key] = served
        served.last_use = next(self._uses)

    def settle(self, pinned: Collection[Key], kept: Collection[Key], most_spare: int) -> int:
        """Lets go of what is too much by now: versions are measured in the compute process after they are served.

        Args:
            pinned: what makes no room.
            kept: what only a lack of memory takes: versions with an alias.
            most_spare: how many of the others stay.

        Returns:
            How many versions went.
        """
        self._sizes |= {key: served.memory_bytes for key, served in self._held.items()}
        tenants = self._tenants(pinned)
        gone = surplus([each for each in tenants if not each.pinned and each.key not in kept], most_spare)
        # One that is too large for any room goes before others make room for it.
        gone += [each.key for each in tenants if not each.pinned and each.n_bytes > self.budget_bytes]
        left = [each for each in tenants if each.key not in gone]
        excess = sum(each.n_bytes for each in left) + sum(self._promised.values()) - self.budget_bytes
        over = least_recently_used(left, excess)
        if over is None:
            over = [each.key for each in left if not each.pinned]
        for key in gone + over:
            self.evict(key)
        return len(gone + over)

    def evict(self, key: Key) -> None:
        """Lets a version make room. The compute process unloads it when the last request that holds it is done."""
        if self._held.pop(key, None) is not None:
            self.evictions[key[0]] += 1
            self._let_go(key)

    def drop(self, key: Key) -> bool:
        """Lets go of a version because that was asked for."""
        return self._held.pop(key, None) is not None

    def disown(self, key: Key) -> None:
        """Forgets a version that cannot be served after all."""
        self._held.pop(key, None)
        self._alive.pop(key, None)

    def _tenants(self, pinned: Collection[Key]) -> list[Tenant]:
        return [Tenant(key, served.memory_bytes, served.last_use, key in pinned) for key, served in self._held.items()]
