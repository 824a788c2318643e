"""Attempts to fit that are killed at a chosen point, each a process of its own.

The server, `python attempts.py`, imports TensorFlow once and forks an attempt for every line of JSON that it reads:
an attempt then costs what it fits, not the seconds of the import.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What an attempt left: weights and history are those of its end."""

    weights: list[np.ndarray]
    history: dict[str, list[float]]
    best_epoch: int
    reported: list[int]
    statistics: list[Any]
    log: str


class AttemptServer:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def killed(self, spec: dict[str, Any], checkpoints: Path, **point: Any) -> None:
        """Fits until the point given, where the attempt kills itself with SIGKILL.

        Args:
            point: `epoch=` with `batch=`, or `while_storing=` or `after=` an epoch, all counted from 1.
        """
        assert -signal.SIGKILL == self._run(spec=spec, checkpoints=str(checkpoints), die=point)

    def finished(self, spec: dict[str, Any], checkpoints: Path | None, out: Path) -> Outcome:
        """Fits to the end."""
        assert 0 == self._run(spec=spec, checkpoints=checkpoints and str(checkpoints), out=str(out))
        with np.load(out / "weights.npz") as arrays:
            weights = [arrays[f"arr_{i}"] for i in range(len(arrays))]
        facts = json.loads((out / "facts.json").read_text())
        figures = (facts[name] for name in ("history", "best_epoch", "reported", "statistics"))
        return Outcome(weights, *figures, (out / "log").read_text())

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _run(self, **order: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def serve() -> None:
    import models.training  # noqa: F401 - what a fork should not import again

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            attempt(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def attempt(order: dict[str, Any]) -> None:
    from models.datasets import load_builtin, split_dataset
    from models.epochs import EpochReport, Epochs
    from models.spec import parse_spec
    from models.training import fit

    die = order.get("die", {})
    out = Path(order.get("out", "."))
    if "out" in order:
        out.mkdir(parents=True)
        logging.basicConfig(filename=out / "log", level=logging.INFO)
    reported: list[int] = []
    end_of_batch = Epochs.on_train_batch_end

    def on_train_batch_end(self: Epochs, batch: int, logs: Any = None) -> None:
        end_of_batch(self, batch, logs)
        if (die.get("epoch"), die.get("batch")) == (self.done + 1, batch + 1):
            os.kill(os.getpid(), signal.SIGKILL)

    def report(epoch: EpochReport) -> None:
        reported.append(epoch.epoch)
        if die.get("after") == epoch.epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    def fence() -> None:
        # Called when a checkpoint is written aside, and not yet in its place.
        if die.get("while_storing") == (reported[-1] if reported else 0) + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    Epochs.on_train_batch_end = on_train_batch_end
    spec = parse_spec(order["spec"])
    dataset = load_builtin(spec.dataset.builtin)
    split = split_dataset(dataset, test=spec.split.test, validation=spec.split.validation)
    checkpoints = Path(order["checkpoints"]) if order["checkpoints"] else None
    fitted = fit(spec, dataset, split, report=report, checkpoints=checkpoints, fence=fence)
    np.savez(out / "weights.npz", *fitted.model.get_weights())
    facts = {"history": fitted.history, "best_epoch": fitted.best_epoch, "reported": reported}
    facts["statistics"] = [asdict(each) for each in fitted.statistics]
    (out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    serve()
