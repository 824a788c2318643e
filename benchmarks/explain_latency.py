"""What an exact explanation costs beside a prediction, and beside the bare engine on the same rows.

`python -m benchmarks.explain_latency [--home DIR] [--requests 200]` trains small versions (kept where a home is named),
serves them with `vitrine serve`, and asks `POST /predict` and `POST /explain` in turn, one row at a time over one kept
connection. In this process it then times `exact` as the server runs it, and ONNX Runtime alone on the rows that `exact`
evaluates, in slices of the size that is best for it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np

from benchmarks.latency import free_port, stop, wait_until_ready
from benchmarks.tables import describe_machine, markdown_table
from benchmarks.versions import trained_version
from explain.exact import all_coalitions, exact
from explain.game import Background, Game
from explain.players import feature_players
from models.artifact import Artifact
from models.database import create_tables, open_database
from models.registry import CHAMPION, Registry
from models.rows import ModelInput
from service.serving.engine import SLICE_ROWS, OnnxEngine
from service.settings import Settings

SERVER_SECONDS = 120
WARM_UP_REQUESTS = 20
SLICES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True, slots=True)
class Size:
    """A model on some of the columns of a data set, against so many background rows.

    Attributes:
        bar: the most that an explanation may cost, in predictions; None where there is no bar.
    """

    builtin: str
    features: int
    background: int
    bar: float | None = None

    @property
    def name(self) -> str:
        return f"columns-{self.features}-rows-{self.background}"

    def specification(self) -> dict[str, Any]:
        from models.datasets import load_builtin

        surplus = list(load_builtin(self.builtin).columns)[self.features :]
        return {
            "model": self.name,
            "dataset": {"builtin": self.builtin},
            "features": dict.fromkeys(surplus, "ignore"),
            "architecture": {"type": "mlp", "layers": [32, 16]},
            "training": {"epochs": 5},
            "background": {"rows": self.background},
        }


SIZES = (
    Size("diabetes", 8, 16, 3),
    Size("diabetes", 10, 16, 8),
    Size("diabetes", 10, 100),
    Size("breast_cancer", 13, 16),
)


@contextmanager
def serving(home: Path, versions: list[tuple[str, Artifact]]) -> Iterator[str]:
    """`vitrine serve` with a champion for each name, until the block ends."""
    settings = Settings(home=home, port=free_port())
    settings.prepare_home()
    engine = open_database(settings.registry_url)
    create_tables(engine)
    registry = Registry(engine)
    for name, version in versions:
        task = version.signature.task
        number = registry.register(
            model=name, job=f"bench-{name}", directory=str(version.directory), task=task, gates=[]
        )
        registry.move_alias(name, CHAMPION, str(number), by="benchmark", reason="benchmark")
    engine.dispose()
    environment = {**os.environ, **settings.to_environment()}
    process = subprocess.Popen([sys.executable, "-m", "service", "serve"], env=environment, stdout=sys.stderr)
    try:
        url = f"http://127.0.0.1:{settings.port}"
        wait_until_ready(process, f"{url}/health/ready", SERVER_SECONDS)
        yield url
    finally:
        stop(process)


def request_times(url: str, size: Size, row: ModelInput, requests: int) -> tuple[float, float]:
    """The medians of a prediction and of an exact explanation, in milliseconds."""
    body = {"model": size.name, "inputs": [row.astype(float).tolist()]}
    bodies = {"/predict": body, "/explain": {**body, "method": "exact"}}
    times: dict[str, list[float]] = {path: [] for path in bodies}
    with httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_connections=1), trust_env=False) as client:
        for _ in range(WARM_UP_REQUESTS + requests):
            for path, sent in bodies.items():
                started = perf_counter()
                client.post(path, json=sent).raise_for_status()
                times[path].append((perf_counter() - started) * 1000)
    predict, explain = (float(np.median(times[path][WARM_UP_REQUESTS:])) for path in ("/predict", "/explain"))
    return predict, explain


def process_times(version: Artifact, row: ModelInput, repetitions: int) -> tuple[int, float, float, int]:
    """Rows evaluated, and the medians in milliseconds of `exact` and of the bare engine with its best slice size.

    They are timed in turn, since the speed of the machine changes.
    """
    if version.onnx_path is None:
        raise RuntimeError("the export did not agree with Keras, and the engine is what is measured.")
    engine = OnnxEngine(version.onnx_path, version.signature, threads=1, keep_memory=False)
    evaluate = partial(engine.evaluate, output=version.signature.outputs[0])
    background = Background.of(version.background[0], evaluate, version.background[1])
    players = feature_players(len(row))
    coalitions = all_coalitions(len(row))
    rows = np.where(coalitions[:, np.newaxis], row, background.rows).reshape(-1, len(row))
    calls: dict[int, Callable[[], Any]] = {
        0: lambda: exact(Game(evaluate, row, background, players), slice_rows=SLICE_ROWS)
    }
    calls |= {size: partial(_sliced, evaluate, rows, size) for size in SLICES}
    times: dict[int, list[float]] = {size: [] for size in calls}
    for _ in range(repetitions + 2):
        for size, call in calls.items():
            started = perf_counter()
            call()
            times[size].append((perf_counter() - started) * 1000)
    medians = {size: float(np.median(taken[2:])) for size, taken in times.items()}
    ours_ms = medians.pop(0)
    best = min(medians, key=medians.__getitem__)
    return len(rows), ours_ms, medians[best], best


def _sliced(evaluate: Callable[[ModelInput], Any], rows: ModelInput, size: int) -> None:
    for start in range(0, len(rows), size):
        evaluate(rows[start : start + size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="where trained versions are kept; default: a temporary folder")
    parser.add_argument("--requests", type=int, default=200, help="of each kind, for each size")
    options = parser.parse_args()
    machine = describe_machine()
    lines = []
    folder = nullcontext(options.home) if options.home else tempfile.TemporaryDirectory()
    with folder as home, tempfile.TemporaryDirectory() as served:
        trained = [trained_version(size.specification(), Path(home)) for size in SIZES]
        versions = [(size.name, version) for size, (version, _) in zip(SIZES, trained, strict=True)]
        with serving(Path(served), versions) as url:
            asked = [
                request_times(url, size, rows[0], options.requests)
                for size, (_, rows) in zip(SIZES, trained, strict=True)
            ]
        for size, (version, rows), (predict_ms, explain_ms) in zip(SIZES, trained, asked, strict=True):
            evaluations, ours_ms, bare_ms, best = process_times(version, rows[0], max(options.requests // 5, 5))
            sys.stderr.write(f"{size.name}: {predict_ms:.2f} {explain_ms:.2f} {bare_ms:.2f} {ours_ms:.2f} ms\n")
            lines.append(
                [
                    f"{size.features} columns, {size.background} background rows",
                    f"{evaluations:,}",
                    f"{predict_ms:.2f}",
                    f"{explain_ms:.2f}",
                    f"{explain_ms / predict_ms:.1f}x",
                    "" if size.bar is None else f"{size.bar:g}x",
                    f"{bare_ms:.2f} (slices of {best:,})",
                    f"{ours_ms:.2f}",
                    f"{ours_ms / bare_ms:.2f}x",
                ]
            )
    header = ["size", "rows", "/predict, ms", "/explain, ms", "ratio", "bar", "bare engine, ms", "exact, ms", "ratio"]
    print(f"{machine}\n\n{markdown_table(header, lines)}")


if __name__ == "__main__":
    main()
