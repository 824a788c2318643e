"""Load on a server: wrk, sending given requests over so many connections, one after the other on each."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.forms import Request

SCRIPT = Path(__file__).with_name("post.lua")
TIMEOUT_SECONDS = 10
SPARE_SECONDS = 30


class WrongAnswers(Exception):
    """A server that fails, or answers something else, is not timed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted. Latencies have its correction for requests that a slow answer kept from being sent."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds


def wrk_command(folder: Path, url: str, connections: int, seconds: int) -> list[str]:
    """One thread: a second one would take the server's core, and the generator is far from being the limit."""
    program = shutil.which("wrk")
    if program is None:
        raise FileNotFoundError("wrk is not installed; it is Debian's package of that name.")
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_SECONDS}s", "-s", str(SCRIPT)]
    return [program, *options, url, "--", str(folder)]


def write_requests(folder: Path, url: str, requests: Sequence[Request]) -> None:
    """As `post.lua` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    host = url.removeprefix("http://")
    for place, request in enumerate(requests, start=1):
        (folder / str(place)).write_bytes(request.raw(host))


def load(url: str, requests: Sequence[Request], *, connections: int, seconds: int) -> Load:
    """Loads a server for so many seconds. Raises `WrongAnswers` when any request fails."""
    with tempfile.TemporaryDirectory() as folder:
        write_requests(Path(folder), url, requests)
        command = wrk_command(Path(folder), url, connections, seconds)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SPARE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise WrongAnswers(f"wrk did not end within {seconds + SPARE_SECONDS} s") from None
    if done.returncode:
        raise WrongAnswers(f"wrk ended with status {done.returncode}: {done.stderr.strip()}")
    return parse_result(done.stdout)


def parse_result(printed: str) -> Load:
    """What wrk's script printed. Raises `WrongAnswers` when it counted a failure, or no answer at all."""
    lines = [line for line in printed.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise WrongAnswers(f"wrk gave no result: {printed.strip()!r}")
    result = json.loads(lines[-1].removeprefix("RESULT "))
    failures = {kind: count for kind, count in result["errors"].items() if count}
    if failures or not result["requests"]:
        raise WrongAnswers(f"{result['requests']} answers; failed: {failures}")
    return Load(result["requests"], result["duration_us"] / 1e6, result["p50_us"] / 1000, result["p99_us"] / 1000)
