"""`vitrine up`: starts every process under one folder, restarts those that die, ends all of them together."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
from rich.console import Console

from models.demos import DEMO_SPECS
from models.errors import TrackingNotUsable
from models.tracking import check_tracking
from service.demo import DemoFailed, print_welcome, train_demo_models
from service.draining import SPARE_SECONDS
from service.processes import end_child, forget_child, start_child
from service.settings import Settings

RESTART_PAUSE_SECONDS = 1.0
STOP_SPARE_SECONDS = 2 * SPARE_SECONDS
"""A part that has not ended this long after the time it was given is killed."""


class HomeInUse(Exception):
    """Another `vitrine up` holds the folder."""


@dataclass
class Part:
    """One process that should always run."""

    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Supervisor:
    """Keeps the parts of the system running."""

    settings: Settings
    console: Console
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.parts = [Part("api", ["serve"]), Part("worker", ["worker"])]
        if self.settings.mlflow_tracking_uri:
            self.parts.append(Part("mirror", ["mirror"]))

    def start(self) -> None:
        for part in self.parts:
            threading.Thread(target=self._keep, args=(part,), name=part.name, daemon=True).start()

    def stop(self) -> None:
        """Ends every part; jobs that are running go on at the next start."""
        self.stopping.set()
        running = [part.process for part in self.parts if part.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        seconds = self.settings.drain_seconds + self.settings.stop_seconds + STOP_SPARE_SECONDS
        for process in running:
            end_child(process, seconds=seconds)

    def _keep(self, part: Part) -> None:
        log = self.settings.logs_directory / f"{part.name}.log"
        while not self.stopping.is_set():
            started = monotonic()
            try:
                process = part.process = start_child(
                    "service", part.arguments, environment=self.settings.to_environment(), log=log
                )
            except OSError as error:
                self.console.print(f"[yellow]The {part.name} process cannot be started: {error}; trying again.")
                self.stopping.wait(RESTART_PAUSE_SECONDS)
                continue
            with self._pid_file(part.name, process.pid):
                status = process.wait()
            if self.stopping.is_set():
                return
            forget_child(process)
            self.console.print(
                f"[yellow]The {part.name} process ended with status {status}; starting it again. Log: {log}"
            )
            # A process that dies at once must not become a loop that takes a core.
            self.stopping.wait(max(0.0, RESTART_PAUSE_SECONDS - (monotonic() - started)))

    @contextmanager
    def _pid_file(self, name: str, pid: int) -> Iterator[None]:
        """Keeps the number of a process in a file; where the disk is full, the process is watched without."""
        pid_file = self.settings.run_directory / f"{name}.pid"
        # Renamed into place, so that whoever reads it never finds half of it.
        aside = pid_file.with_suffix(".new")
        try:
            aside.write_text(f"{pid}\n")
            aside.replace(pid_file)
        except OSError as error:
            self.console.print(f"[yellow]{pid_file} cannot be written: {error}")
        yield
        with suppress(OSError):
            pid_file.unlink(missing_ok=True)


def run_up(settings: Settings, *, demo: bool) -> int:
    """Runs until Ctrl-C or SIGTERM. Returns the exit status."""
    console = Console(stderr=False, highlight=False)
    try:
        if settings.mlflow_tracking_uri:
            check_tracking(settings.mlflow_tracking_uri)
        with _lock(settings):
            return _run(settings, console, demo=demo)
    except (HomeInUse, TrackingNotUsable) as error:
        sys.stderr.write(f"vitrine: {error}\n")
        return 1


def _run(settings: Settings, console: Console, *, demo: bool) -> int:
    address = f"http://{settings.host}:{settings.port}"
    if _answers(address):
        sys.stderr.write(f"vitrine: something else answers at {address} already. Choose another --port.\n")
        return 1
    if settings.grpc_port and _is_taken(settings.host, settings.grpc_port):
        sys.stderr.write(f"vitrine: port {settings.grpc_port} is taken already. Choose another --grpc-port.\n")
        return 1
    child_settings = settings.model_copy(update={"home": settings.home.resolve()})
    if demo:
        child_settings = child_settings.model_copy(
            update={"preload": tuple(dict.fromkeys([*settings.preload, *DEMO_SPECS]))}
        )
    supervisor = Supervisor(child_settings, console)

    def stop(_number: int, _frame: Any) -> None:
        supervisor.stopping.set()
        raise KeyboardInterrupt

    # Both by hand: a shell starts background jobs with SIGINT ignored, and Python then leaves it so.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    console.print(f"Vitrine is starting under {settings.home.resolve()}")
    supervisor.start()
    try:
        with httpx.Client(base_url=address, timeout=10) as client:
            _wait_for(client, "/health/live", supervisor)
            if demo:
                train_demo_models(client, console)
            _wait_for(client, "/health/ready", supervisor)
            print_welcome(client, console, address)
            if settings.grpc_port:
                console.print(f"gRPC, for clients of Triton and KServe: {settings.host}:{settings.grpc_port}")
        supervisor.stopping.wait()
    except KeyboardInterrupt:
        pass
    except DemoFailed as error:
        sys.stderr.write(f"vitrine: {error}\n")
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        console.print("\nStopping ...")
        supervisor.stop()
        console.print("Stopped. Nothing is lost: the next start goes on from here.")
    return 0


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Holds the home for this process; the kernel lets go when it ends, however it ends."""
    settings.prepare_home()
    with (settings.run_directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise HomeInUse(
                f"{settings.home.resolve()} is held by process {lock.read().strip()}. "
                "Stop it, or choose another --home."
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _answers(address: str) -> bool:
    try:
        httpx.get(f"{address}/health/live", timeout=1)
    except httpx.HTTPError:
        return False
    return True


def _is_taken(host: str, port: int) -> bool:
    """Whether another process listens there."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return True
    return False


def _wait_for(client: httpx.Client, path: str, supervisor: Supervisor) -> None:
    while not _succeeds(client, path):
        supervisor.stopping.wait(0.1)


def _succeeds(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.HTTPError:
        return False
