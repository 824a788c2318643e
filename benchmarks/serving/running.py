"""A server that runs: its start, its processes, their memory and time, its end."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

import httpx
import numpy as np

from benchmarks.memory import process_tree, read_processes
from benchmarks.serving.forms import Form, Request
from benchmarks.serving.load import WrongAnswers
from benchmarks.serving.rpc import Call, V2Rpc
from benchmarks.serving.servers import Server
from benchmarks.serving.subjects import Subject

MARK = "SERVING_BENCHMARK"
START_SECONDS = 180
STOP_SECONDS = 30
SETTLE_SECONDS = 60
QUIET_CORES = 0.05
CHECKED_ROWS = 32
TOLERANCE = 1e-5

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of all processes of a server, in MiB. PSS shares a page's size among its users; None where it may not be read."""

    processes: int
    resident_mib: float
    proportional_mib: float | None
    front_mib: float


@dataclass(frozen=True, slots=True)
class Running:
    """A server's process, and the mark by which those that it started are known, wherever they have gone."""

    server: Server
    process: subprocess.Popen[bytes]
    mark: str
    start_seconds: float

    def pids(self) -> list[int]:
        """Its processes, the first one first."""
        alive = self.process.poll() is None
        tree = [process.pid for process in process_tree(self.process.pid)] if alive else []
        marked = [pid for pid in read_processes() if _is_marked(pid, self.mark)]
        below = [child.pid for pid in marked for child in process_tree(pid)]
        return list(dict.fromkeys([*tree, *marked, *below]))

    def cpu_seconds(self) -> float:
        """The processor time that its processes have taken so far."""
        return sum(cpu_seconds(pid) for pid in self.pids())

    def memory(self) -> Memory:
        """What its processes hold now."""
        pids = self.pids()
        processes = read_processes()
        resident = {pid: processes[pid].resident_mib for pid in pids if pid in processes}
        proportional = [_proportional_mib(pid) for pid in resident]
        known = [mib for mib in proportional if mib is not None]
        whole = sum(known) if len(known) == len(proportional) else None
        return Memory(len(resident), sum(resident.values()), whole, resident.get(self.process.pid, 0.0))

    def settle(self) -> float:
        """Waits until its processes do next to nothing, or have gone on for a minute; the cores that they keep busy."""
        deadline = monotonic() + SETTLE_SECONDS
        while True:
            before, began = self.cpu_seconds(), monotonic()
            Event().wait(0.5)
            busy = (self.cpu_seconds() - before) / (monotonic() - began)
            if busy <= QUIET_CORES or monotonic() > deadline:
                return busy


@contextmanager
def running(server: Server, first: Sequence[Request | Call], log: Path) -> Iterator[Running]:
    """Starts a server, waits until it answers the given requests, and ends it and all that it started.

    Raises:
        RuntimeError: when it ends before it answers; the last lines that it wrote are in the message.
        TimeoutError: when it does not answer in time.
    """
    mark = secrets.token_hex(8)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")}
    environment = {**inherited, **server.environment, MARK: mark}
    began = monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            server.command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        _wait_until_answered(server, process, first, log)
        yield Running(server, process, mark, monotonic() - began)
    finally:
        _end(process, mark)


def _wait_until_answered(
    server: Server, process: subprocess.Popen[bytes], first: Sequence[Request | Call], log: Path
) -> None:
    deadline = monotonic() + START_SECONDS
    waiting = list(first)
    with httpx.Client(base_url=server.url, timeout=5, trust_env=False) as client:
        while waiting:
            last = _answer(client, waiting[0])
            if last is None:
                waiting.pop(0)
                continue
            if process.poll() is not None or monotonic() > deadline:
                written = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                if process.poll() is not None:
                    raise RuntimeError(f"{server.name} ended with status {process.returncode}:\n{written}")
                raise TimeoutError(f"{server.name} did not answer within {START_SECONDS} s ({last}):\n{written}")
            Event().wait(0.02)


def _answer(client: httpx.Client, request: Request | Call) -> str | None:
    """None for a 200, else what came."""
    if isinstance(request, Call):
        try:
            request.answer(seconds=5)
        except WrongAnswers as error:
            return str(error)
        return None
    try:
        answer = client.post(request.path, content=request.body, headers=dict(request.headers))
    except httpx.HTTPError as error:
        return type(error).__name__
    return None if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"


def check_answers(url: str, form: Form, subject: Subject, n_rows: int) -> None:
    """Asks for some rows, so many at a time. Raises `WrongAnswers` where one is not what ONNX Runtime gives for it."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for places in _checked(subject, n_rows):
            request = form.ask(subject, subject.rows[places])
            try:
                answer = client.post(request.path, content=request.body, headers=dict(request.headers))
            except httpx.HTTPError as error:
                raise WrongAnswers(f"no answer: {type(error).__name__}") from error
            if answer.status_code != 200:
                raise WrongAnswers(f"{answer.status_code} {answer.text[:120]}")
            _compare(subject, places, form.read(subject, answer.headers, answer.content))


def check_calls(form: V2Rpc, subject: Subject, n_rows: int) -> None:
    """As `check_answers`, over gRPC."""
    for places in _checked(subject, n_rows):
        _compare(subject, places, form.read(form.ask(subject, subject.rows[places]).answer()))


def _checked(subject: Subject, n_rows: int) -> list[np.ndarray]:
    """The places of the rows that are asked for, so many at a time."""
    return [
        np.arange(start, start + n_rows) % len(subject.rows) for start in range(0, max(n_rows, CHECKED_ROWS), n_rows)
    ]


def _compare(subject: Subject, places: np.ndarray, outputs: np.ndarray) -> None:
    expected = subject.outputs[places]
    if outputs.shape != expected.shape or not np.allclose(outputs, expected, rtol=0, atol=TOLERANCE):
        raise WrongAnswers(f"row {places[0]} of {subject.name}: expected {expected[0]}, received {outputs[0]}")


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Asks it to end, then kills what is left of it."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = monotonic() + STOP_SECONDS
    while left := [pid for pid in read_processes() if _is_marked(pid, mark)]:
        for pid in left:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        if monotonic() > deadline:
            raise TimeoutError(f"{process.args} left processes that do not end: {left}")
        Event().wait(0.05)


def _is_marked(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has taken so far; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    user, system = fields[11:13]
    return (int(user) + int(system)) / _TICKS


def _proportional_mib(pid: int) -> float | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), None)
