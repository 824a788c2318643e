"""Where the time of one request goes: `python -m benchmarks.serving.profiling [--subject digits] [--connections 32]`.

py-spy samples our API process while wrk loads it; each sample belongs to the step whose code is nearest to where it was
taken, time in C to the Python line that called it. Shares become microseconds by the processor time per request, which
is measured before, without py-spy. `make profile-serving` installs py-spy in `.venv-bench`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.serving.cells import DIFFERENT_REQUESTS, WARM_UP_SECONDS
from benchmarks.serving.ending import end_on_sigterm
from benchmarks.serving.forms import Native, requests_of
from benchmarks.serving.load import load, write_requests, wrk_command
from benchmarks.serving.running import Running, cpu_seconds, running
from benchmarks.serving.servers import REPOSITORY, first_requests, vitrine
from benchmarks.serving.subjects import NAMES, make_subjects
from benchmarks.tables import describe_machine, markdown_table

SAMPLES_PER_SECOND = 500
FUNCTIONS = 20
STEPS: Mapping[str, tuple[str, ...]] = {
    "network: ONNX Runtime": ("/onnxruntime/",),
    "choice of version, engine, answer's words": ("/service/serving/",),
    "rows to an array": ("/models/",),
    "metrics": ("/service/metrics.py", "/service/tallies.py", "/prometheus_client/"),
    "entrance: time, draining, answer": (
        "/service/entrance.py",
        "/service/deadlines.py",
        "/service/receiving.py",
        "/service/draining.py",
    ),
    "ids and context of logs": ("/service/identifiers.py", "/service/logs.py"),
    "body read, parsed and checked": ("/service/bodies.py", "/service/schemas.py", "/pydantic/"),
    "route": ("/service/",),
    "Starlette and FastAPI": ("/starlette/", "/fastapi/"),
    "HTTP server: uvicorn, httptools": ("/uvicorn/", "/httptools/"),
    "event loop, sockets, kernel": ("/uvloop/", "/asyncio/"),
}
"""In this order: the first step that a file's path fits has it. `/service/serving/` thus comes before `/service/`."""
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack that was seen so many times: functions with their files, the outermost first."""

    frames: tuple[tuple[str, str], ...]
    count: int


def parse_samples(raw: str) -> Iterator[Sample]:
    """What `py-spy record --format raw --full-filenames` writes: `function (file:line);... count`."""
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = []
        for frame in stack.split(";"):
            function, found, place = frame.rpartition(" (")
            frames.append((function, place.rstrip(")").rpartition(":")[0]) if found else (frame, ""))
        yield Sample(tuple(frames), int(count))


def step_of(sample: Sample) -> str:
    """The step of the innermost frame that belongs to one."""
    for _, file in reversed(sample.frames):
        for step, parts in STEPS.items():
            if any(part in file for part in parts):
                return step
    return OTHER


def is_work(sample: Sample) -> bool:
    """Whether a sample is of the event loop's thread, or of one that predicts for it, and not of one that waits.

    py-spy takes threads that wait in C for busy ones when the machine is.
    """
    if not sample.frames[0][1].endswith("/threading.py"):
        return True
    pools = [place for place, (_, file) in enumerate(sample.frames) if file.endswith("/concurrent/futures/thread.py")]
    return bool(pools) and pools[-1] < len(sample.frames) - 1


def shares(samples: Sequence[Sample]) -> dict[str, float]:
    """Of each step, its share of all samples."""
    counts: Counter[str] = Counter()
    for sample in samples:
        counts[step_of(sample)] += sample.count
    return {step: counts[step] / counts.total() for step in [*STEPS, OTHER] if counts[step]}


def innermost(samples: Sequence[Sample]) -> Counter[str]:
    """How many samples each function was the innermost of."""
    counts: Counter[str] = Counter()
    for sample in samples:
        function, file = sample.frames[-1]
        counts[f"{function}, {'/'.join(Path(file).parts[-3:])}"] += sample.count
    return counts


def profile(started: Running, py_spy: Path, folder: Path, connections: int, seconds: int) -> list[Sample]:
    """Samples the API process while requests that lie in a folder are sent to it."""
    output = folder / "samples.txt"
    sending = subprocess.Popen(
        wrk_command(folder / "requests", started.server.url, connections, seconds + 2), stdout=subprocess.DEVNULL
    )
    try:
        subprocess.run(
            [
                py_spy, "record", "--pid", str(started.process.pid), "--duration", str(seconds),
                "--rate", str(SAMPLES_PER_SECOND), "--format", "raw", "--full-filenames", "--output", output,
            ],
            check=True, capture_output=True, timeout=seconds + 60,
        )  # fmt: skip
    finally:
        sending.wait(seconds + 60)
    return [sample for sample in parse_samples(output.read_text()) if is_work(sample)]


def report(samples: Sequence[Sample], cpu_us: float, about: str) -> str:
    """Steps and functions, in microseconds of one request."""
    steps = [
        [step, f"{share:.1%}", f"{share * cpu_us:.1f}"]
        for step, share in sorted(shares(samples).items(), key=lambda item: -item[1])
    ]
    counts = innermost(samples)
    functions = [
        [name, f"{count / counts.total():.1%}", f"{count / counts.total() * cpu_us:.1f}"]
        for name, count in counts.most_common(FUNCTIONS)
    ]
    return "\n\n".join(
        [
            about,
            markdown_table(["step", "share", "us"], [*steps, ["together", "100.0%", f"{cpu_us:.1f}"]]),
            markdown_table(["function, itself", "share", "us"], functions),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=NAMES, default=NAMES[0])
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rows", type=int, default=1, help="of a request")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--home", type=Path, help="keeps the trained versions; default: a temporary folder")
    parser.add_argument("--py-spy", type=Path, default=REPOSITORY / ".venv-bench/bin/py-spy")
    options = parser.parse_args()
    end_on_sigterm()
    machine = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {describe_machine()}."
    kept = nullcontext(options.home) if options.home else tempfile.TemporaryDirectory()
    with kept as home, tempfile.TemporaryDirectory(prefix="profile-") as scratch:
        subjects, folder = make_subjects(Path(home)), Path(scratch)
        server = vitrine(subjects, folder)
        requests = requests_of(Native(), subjects[options.subject], options.rows, DIFFERENT_REQUESTS)
        write_requests(folder / "requests", server.url, requests)
        with running(server, first_requests(server, subjects), folder / "server.log") as started:
            started.settle()
            load(server.url, requests, connections=options.connections, seconds=WARM_UP_SECONDS)
            before = cpu_seconds(started.process.pid)
            plain = load(server.url, requests, connections=options.connections, seconds=options.seconds)
            cpu_us = (cpu_seconds(started.process.pid) - before) / plain.requests * 1e6
            samples = profile(started, options.py_spy, folder, options.connections, options.seconds)
    about = (
        f"{machine} {options.subject}, {options.rows} rows a request, {options.connections} connections: "
        f"{plain.requests_per_second:,.0f} requests/s, {cpu_us:.1f} us of processor time each in the API process."
    )
    print(report(samples, cpu_us, about))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
