"""The compute process: everything that needs TensorFlow, every dear explanation, every picture.

Started by `compute.ComputeClient`, it reads orders from a socket and answers each under its number. Three threads share
the work, so that a prediction does not wait for an explanation, nor either of them for a version being loaded.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from explain.attribution import Estimate
from explain.gradients import KerasGradient
from models.artifact import Artifact, open_artifact
from models.outputs import target_model
from models.rows import ModelInput
from service.logs import configure_logging, log_context
from service.processes import hold_lifeline
from service.serving.engine import Engine, KerasEngine, OnnxEngine, warm_up
from service.serving.explaining import ExplainedVersion, ExplanationOrder, LoadReport
from service.settings import read_settings

logger = logging.getLogger("vitrine.compute")

GRADIENT_SLICE_ELEMENTS = 256 * 1024
"""Elements in one gradient call: 256 rows where a row is small, fewer where it is large."""


class LoadedVersion:
    """A version in this process: its engine, and a compiled gradient for each output."""

    def __init__(self, artifact: Artifact) -> None:
        signature = artifact.signature
        model = artifact.load_keras()
        self.engine: Engine
        if artifact.onnx_path:
            self.engine = OnnxEngine(artifact.onnx_path, signature, threads=os.cpu_count() or 1, keep_memory=True)
        else:
            self.engine = KerasEngine(model, signature)
        row_ms = warm_up(self.engine, signature)
        self.explained = ExplainedVersion(artifact, self.engine, row_ms)
        slice_rows = int(np.clip(GRADIENT_SLICE_ELEMENTS // np.prod(signature.input_shape), 1, 256))
        self.gradients = {
            output: KerasGradient(target_model(model, signature, output), slice_rows) for output in signature.outputs
        }
        self.report = LoadReport(self.gradients[signature.outputs[0]].device, slice_rows)


class ComputeProcess:
    """Takes orders `(number, kind, payload)` and sends `(number, succeeded, result or error)`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._versions: dict[str, Future[LoadedVersion]] = {}
        self._kinds: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "predict": self._predict,
            "explain": self._explain,
            "heatmap": self._heatmap,
            "waterfall": self._waterfall,
        }
        self._queues: dict[str, queue.SimpleQueue[tuple[int, str, dict[str, Any]]]] = {}
        for thread, kinds in (
            ("load", ["load"]),
            ("predict", ["predict"]),
            ("explain", ["explain", "heatmap", "waterfall"]),
        ):
            orders: queue.SimpleQueue[tuple[int, str, dict[str, Any]]] = queue.SimpleQueue()
            self._queues |= dict.fromkeys(kinds, orders)
            threading.Thread(target=self._work, args=(orders,), name=thread, daemon=True).start()

    def run(self) -> None:
        """Hands orders to their threads until the other side closes."""
        while True:
            try:
                number, kind, payload = self._connection.recv()
            except (EOFError, OSError):
                return
            if kind == "unload":
                self._versions.pop(payload["key"], None)
                continue
            if kind == "load":
                self._versions.setdefault(payload["key"], Future())
            self._queues[kind].put((number, kind, payload))

    def _work(self, orders: queue.SimpleQueue[tuple[int, str, dict[str, Any]]]) -> None:
        while True:
            number, kind, payload = orders.get()
            version = self._versions.get(payload.get("key", ""))
            if kind != "load" and version is not None and not version.done():
                # Still loading: take it up again then, and let others pass.
                version.add_done_callback(lambda _, order=(number, kind, payload): orders.put(order))
                continue
            with log_context(**payload.pop("context", {})):
                try:
                    answer = (number, True, self._kinds[kind](**payload))
                except Exception as error:
                    # Whatever a model raises belongs to the request that met it, not to this process.
                    logger.info("%s failed", kind, exc_info=error)
                    answer = (number, False, (type(error), str(error), vars(error)))
            with self._sending:
                self._connection.send(answer)

    def _load(self, key: str, directory: str) -> LoadReport:
        future = self._versions.setdefault(key, Future())
        started = perf_counter()
        try:
            version = LoadedVersion(open_artifact(Path(directory)))
        except BaseException as error:
            future.set_exception(error)
            raise
        logger.info("loaded %s in %.1f s", key, perf_counter() - started)
        future.set_result(version)
        return version.report

    def _predict(self, key: str, rows: ModelInput, output: str) -> np.ndarray:
        return self._versions[key].result().engine.evaluate(rows, output)

    def _explain(self, key: str, rows: ModelInput, order: ExplanationOrder) -> list[Estimate]:
        version = self._versions[key].result()
        return version.explained.explain(rows, order, lambda: version.gradients[order.output])

    def _heatmap(self, **picture: Any) -> bytes:
        from explain.render import heatmap

        return heatmap(**picture)

    def _waterfall(self, **picture: Any) -> bytes:
        from explain.render import waterfall

        return waterfall(**picture)


def main() -> None:
    """Runs until the API process closes the socket or ends."""
    hold_lifeline()
    settings = read_settings(os.environ)
    configure_logging("compute", log_format=settings.log_format, log_level=settings.log_level)
    os.nice(10)  # live predictions go first
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    process = ComputeProcess(Connection(int(sys.argv[1])))
    logger.info("ready, TensorFlow %s", tf.__version__)
    process.run()
    os._exit(0)  # TensorFlow's threads need not be waited for


if __name__ == "__main__":
    main()
