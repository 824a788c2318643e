"""The API process's side of the compute process: orders out, answers back, a new process when one dies."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Any

from service.errors import ComputeBusy, ComputeUnavailable
from service.logs import current_context
from service.serving.compute_care import Care, reload_pause, restart_pause
from service.serving.compute_life import Life
from service.serving.compute_orders import Load, Order, fail, rebuilt, succeed, succeeded
from service.serving.explaining import LoadReport

logger = logging.getLogger("vitrine.compute")

MAX_ATTEMPTS = 2
"""Processes that may die over one order."""

MAX_DEATHS_SEEN = 6
"""Processes that may die while an order is merely there: what kills before it is begun is not known by name."""


class ComputeClient:
    """Starts the compute process, sends it orders, and starts another when it dies.

    - An order that a dying process had begun is tried once more, alone among those suspected with it, so that an
      order that always kills does not take others with it; then it fails with `ComputeUnavailable`. Orders that had
      only waited go on waiting.
    - Versions that were loaded are loaded again. One whose loading fails is tried again after a growing pause.
    - A process that dies again and again is started after growing pauses, and orders fail at once in between.
    - One from which many versions were unloaded is renewed: the new one is started and warmed beside it.
    """

    def __init__(
        self, log: Path | None, care: Care | None = None, module: str = "service.serving.compute_process"
    ) -> None:
        self._log, self._care, self._module = log, care or Care(), module
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._orders: dict[int, Order] = {}
        self._loads: dict[str, Load] = {}
        self._suspects: deque[Order] = deque()
        self._tried: Order | None = None
        self._current: Life | None = None
        self._successor: Life | None = None
        self._successor_loads: dict[str, Order] = {}
        self._retired: list[Life] = []
        # What the managing thread is told. A SimpleQueue may be put to from a finalizer, wherever that runs.
        self._news: queue.SimpleQueue[Life | str | None] = queue.SimpleQueue()
        self._manager = threading.Thread(target=self._manage, name="compute-client", daemon=True)
        self._closed = False
        self._deaths = 0
        self._start_at = 0.0
        self._last_status: int | None = None
        self.restarts = 0
        self.renewals = 0

    def start(self) -> None:
        self._manager.start()

    def close(self) -> None:
        """Ends the process; orders that are waiting fail."""
        with self._lock:
            self._closed = True
        self._news.put(None)
        if self._manager.ident is not None:
            self._manager.join()
        with self._lock:
            lives = [life for life in (self._current, self._successor, *self._retired) if life is not None]
            orders, self._orders = list(self._orders.values()), {}
        for life in lives:
            life.end(seconds=2)
        for order in orders:
            fail(order.future, ComputeUnavailable("The server is stopping."))

    def waiting(self) -> list[str]:
        """The kinds of the orders that have no answer yet."""
        with self._lock:
            return [order.kind for order in self._orders.values()]

    @property
    def pid(self) -> int | None:
        """The process id, for those who watch it."""
        current = self._current
        return current.process.pid if current else None

    @property
    def is_failing(self) -> bool:
        """Whether the process dies again and again."""
        return self._deaths >= 2

    @property
    def problem(self) -> str | None:
        """What is wrong with the process, in words."""
        if not self.is_failing:
            return None
        text = f"The compute process has died {self._deaths} times in a row (last exit status {self._last_status})"
        pause = self._start_at - monotonic()
        return f"{text}; it is started again in {pause:.0f} s." if self._current is None and pause > 0 else f"{text}."

    def load(self, key: str, directory: Path) -> Future[LoadReport]:
        """Loads a version; its `LoadReport` comes when it is compiled and warm. The future cannot be cancelled."""
        with self._lock:
            order = self._load_order(key, directory)
            self._loads[key] = Load(directory, order)
            self._hand_over(order)
            if self._successor is not None:
                self._load_in_successor(key, directory)
        return order.future

    def loading(self, key: str) -> Future[LoadReport]:
        """The latest load of a version: another one when the process had to be started anew."""
        return self._loads[key].order.future

    def unload(self, key: str) -> None:
        """Gives up a version, soon. May be called from a finalizer: it takes no lock."""
        self._news.put(key)

    def submit(self, kind: str, **payload: Any) -> Future[Any]:
        """Sends an order; orders given before the process is up wait for it. Cancelling the future drops the order.

        Raises:
            ComputeUnavailable: when the process, or the loading of the version, dies again and again.
            ComputeBusy: when too many orders are waiting.
        """
        with self._lock:
            if self._closed:
                raise ComputeUnavailable("The server is stopping.")
            if self._current is None and self._deaths > MAX_ATTEMPTS:
                raise ComputeUnavailable(self.problem or "", retry_after_seconds=self._start_at - monotonic())
            load = self._loads.get(payload.get("key", ""))
            if load is not None and load.lethal:
                raise ComputeUnavailable(f"The compute process died loading {payload['key']}, {MAX_ATTEMPTS} times.")
            if len(self._orders) >= self._care.waiting_orders:
                raise ComputeBusy(len(self._orders))
            order = Order(next(self._numbers), kind, {**payload, "context": current_context()})
            self._hand_over(order)
        order.future.add_done_callback(lambda future: self._drop(order) if future.cancelled() else None)
        return order.future

    # -- under the lock ------------------------------------------------------------------------------------------

    def _load_order(self, key: str, directory: Path) -> Order:
        order = Order(next(self._numbers), "load", {"key": key, "directory": str(directory)})
        order.future.set_running_or_notify_cancel()
        return order

    def _hand_over(self, order: Order) -> None:
        self._orders[order.number] = order
        if self._current is not None:
            self._send(order, self._current)

    def _send(self, order: Order, life: Life) -> None:
        order.life, order.begun = life, False
        life.send(order.number, order.kind, order.payload)

    def _load_in_successor(self, key: str, directory: Path) -> None:
        assert self._successor is not None
        order = self._successor_loads[key] = self._load_order(key, directory)
        self._orders[order.number] = order
        self._send(order, self._successor)

    def _try_next_suspect(self) -> None:
        if self._tried is None and self._suspects and self._current is not None:
            self._tried = self._suspects.popleft()
            self._send(self._tried, self._current)

    def _forget(self, order: Order) -> None:
        self._orders.pop(order.number, None)
        if order in self._suspects:
            self._suspects.remove(order)
        if order is self._tried:
            self._tried = None
            self._try_next_suspect()

    # -- told by others ------------------------------------------------------------------------------------------

    def _drop(self, order: Order) -> None:
        """Its client is gone, or out of time."""
        with self._lock:
            if order.number in self._orders and order.life is not None:
                order.life.send(0, "drop", {"number": order.number})
            self._forget(order)

    def _heard(self, life: Life, number: int, status: str, result: Any) -> None:
        with self._lock:
            if status == "ready":
                life.ready = True
            order = self._orders.get(number)
            if order is None or order.life is not life:
                return
            if status == "begun":
                order.begun = True
                return
            self._forget(order)
            load = self._loads.get(order.key or "")
            if load is not None and load.order is order:
                load.failures = 0 if status == "done" else load.failures + 1
                load.retry_at = None if status == "done" else monotonic() + reload_pause(load.failures)
        if status == "done":
            succeed(order.future, result)
        else:
            fail(order.future, rebuilt(*result))
        if self._successor is life or self._retired:
            self._news.put(None)

    # -- the managing thread -------------------------------------------------------------------------------------

    def _manage(self) -> None:
        news: Life | str | None = None
        while not self._closed:
            try:
                if isinstance(news, Life):
                    self._bury(news)
                elif news is not None:
                    self._unload(news)
                self._tend()
            except Exception:
                # Without this thread nothing would ever start another process.
                logger.exception("looking after the compute process failed; going on")
            try:
                news = self._news.get(timeout=1.0)
            except queue.Empty:
                news = None

    def _tend(self) -> None:
        now = monotonic()
        if self._current is None and now >= self._start_at:
            self._begin_life()
        for life in [life for life in (self._current, self._successor) if life is not None]:
            silence = now - life.last_heard
            if silence > (self._care.stall_seconds if life.ready else self._care.start_seconds):
                logger.error("compute process %d has said nothing for %.0f s; ending it", life.process.pid, silence)
                life.kill()
            elif silence > self._care.stall_seconds / 8:
                life.send(0, "ping", {})
        if (
            self._current is not None
            and self._current.ready
            and now - self._current.started > self._care.quick_death_seconds
        ):
            self._deaths = 0
        self._reload_failed(now)
        self._end_retired()
        self._renew()

    def _begin_life(self) -> None:
        try:
            life = Life(self._module, self._log, self._heard, self._news.put)
        except OSError as error:
            self._deaths += 1
            self._start_at = monotonic() + max(1.0, restart_pause(self._deaths, self._care.longest_pause_seconds))
            logger.error("no compute process can be started: %s", error)
            return
        with self._lock:
            self._current = life
            for key, load in self._loads.items():
                if load.order.number not in self._orders and load.retry_at is None:
                    load.order = self._load_order(key, load.directory)
                    self._orders[load.order.number] = load.order
            waiting = [order for order in self._orders.values() if order.life is None and order not in self._suspects]
            for order in sorted(waiting, key=lambda order: (order.kind != "load", order.number)):
                self._send(order, life)
            self._try_next_suspect()
        life.begin()

    def _bury(self, life: Life) -> None:
        """After a process has ended: who was it working for, and what becomes of them?"""
        status = life.end(seconds=1)
        lost: list[tuple[Future[Any], str]] = []
        with self._lock:
            if self._closed:
                return
            orphans = [order for order in self._orders.values() if order.life is life]
            if life in self._retired:
                self._retired.remove(life)
                if not orphans:
                    return
            if life is self._successor:
                self._give_up_successor()
                logger.warning("the compute process that should take over ended with status %s", status)
                return
            if life is self._current:
                self._current = None
                self.restarts += 1
                lived = monotonic() - life.started
                self._deaths = self._deaths + 1 if lived < self._care.quick_death_seconds else 1
                self._last_status = status
                self._start_at = monotonic() + restart_pause(self._deaths, self._care.longest_pause_seconds)
                if self._successor is not None:
                    self._promote_successor()
            for order in orphans:
                order.life = None
                order.deaths += order.begun
                order.deaths_seen += 1
                if order is self._tried:
                    self._tried = None
                if order.deaths >= MAX_ATTEMPTS or order.deaths_seen >= MAX_DEATHS_SEEN:
                    lost += self._lose(order)
                elif order.begun:
                    self._suspects.append(order)
                elif self._current is not None:
                    self._send(order, self._current)
                order.begun = False
            self._try_next_suspect()
        logger.warning("the compute process ended with status %s; starting another", status)
        for future, text in lost:
            fail(future, ComputeUnavailable(text))

    def _lose(self, order: Order) -> list[tuple[Future[Any], str]]:
        """Gives up an order that has killed twice; with a load, everything that waits for it."""
        del self._orders[order.number]
        load = self._loads.get(order.key or "")
        if order.kind != "load" or load is None:
            return [(order.future, "The compute process died while working on this request, twice.")]
        load.lethal, load.failures = True, load.failures + 5
        load.retry_at = monotonic() + reload_pause(load.failures)
        text = f"The compute process died loading {order.key}, {MAX_ATTEMPTS} times."
        waiting = [other for other in self._orders.values() if other.key == order.key]
        for other in waiting:
            self._forget(other)
        return [(given_up.future, text) for given_up in (order, *waiting)]

    def _unload(self, key: str) -> None:
        with self._lock:
            load = self._loads.pop(key, None)
            if load is None:
                return
            self._forget(load.order)
            if (order := self._successor_loads.pop(key, None)) is not None:
                self._orders.pop(order.number, None)
            for life in (self._current, self._successor):
                if life is not None:
                    life.send(0, "unload", {"key": key})
                    life.unloads += 1

    def _reload_failed(self, now: float) -> None:
        with self._lock:
            for key, load in self._loads.items():
                if load.retry_at is not None and now >= load.retry_at and self._current is not None:
                    load.retry_at, load.lethal = None, False
                    load.order = self._load_order(key, load.directory)
                    self._hand_over(load.order)

    def _end_retired(self) -> None:
        """A process that was replaced ends when it has answered what it had."""
        with self._lock:
            working = {order.life for order in self._orders.values()}
            idle = [life for life in self._retired if life not in working]
        for life in idle:
            life.end(seconds=2)

    def _renew(self) -> None:
        """The new process is started and warmed before the old one goes."""
        current, successor = self._current, self._successor
        if current is None or not current.ready:
            return
        if successor is None:
            if current.unloads >= self._care.unloads_before_renewal and not self._suspects:
                self._begin_successor(current)
            return
        with self._lock:
            if not successor.ready:
                return
            # It must have all that the other has; what both are still loading goes on in the new one.
            for key, order in self._successor_loads.items():
                if not succeeded(self._loads[key].order.future):
                    continue
                if not order.future.done():
                    return
                if not succeeded(order.future):
                    logger.warning("not renewing the compute process: the new one could not load %s", key)
                    self._give_up_successor()
                    successor.kill()
                    return
            self._retired.append(current)
            self._promote_successor()
            self.renewals += 1
        logger.info("the compute process was renewed after %d unloaded versions", current.unloads)

    def _begin_successor(self, current: Life) -> None:
        current.unloads = 0  # whatever comes of it, the next attempt is as many unloads away
        try:
            life = Life(self._module, self._log, self._heard, self._news.put)
        except OSError as error:
            logger.error("the compute process cannot be renewed now: %s", error)
            return
        with self._lock:
            self._successor = life
            for key, load in self._loads.items():
                if load.retry_at is None:
                    self._load_in_successor(key, load.directory)
        life.begin()

    def _promote_successor(self) -> None:
        successor = self._successor
        assert successor is not None
        for key, order in self._successor_loads.items():
            load = self._loads[key]
            if load.order.number in self._orders:
                # Somebody waits for this one; the new process answers it when it has done the other.
                self._send(load.order, successor)
            else:
                load.order = order
        self._current, self._successor, self._successor_loads = successor, None, {}

    def _give_up_successor(self) -> None:
        for order in self._successor_loads.values():
            self._orders.pop(order.number, None)
        self._successor, self._successor_loads = None, {}
