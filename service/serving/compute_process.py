"""The compute process: everything that needs TensorFlow, every dear explanation, every picture.

Started by `compute.ComputeClient`, it reads orders from a socket and answers each under its number. Four threads share
the work, so that a prediction does not wait for an explanation, nor an explanation for a job, nor any of them for a
version being loaded. All but predictions are niced, and pause between slices while someone of a lower rank waits.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from explain.attribution import Estimate
from explain.cam import FeatureMaps, KerasFeatureMaps
from explain.caption import PICTURE_KINDS, PictureKind
from explain.errors import NotDifferentiable
from explain.gradients import compute_device
from explain.paths import Gradient
from explain.table import parquet_table
from models.artifact import BACKGROUND, KERAS, ONNX, Artifact, open_artifact
from models.cores import limit_tensorflow
from models.datasets import Part
from models.lean_keras import import_keras
from models.outputs import target_model
from models.public import without_folders
from models.rows import ModelInput
from models.sources.folder import DataFolder
from service.errors import ComputeFailed
from service.logs import configure_logging, log_context
from service.processes import hold_lifeline
from service.serving.choosing import EngineRules, rules_of
from service.serving.courtesy import Courtesy, OrderDropped, PoliteEngine, Rank
from service.serving.engine import Engine, KerasEngine, OnnxEngine, load_library, warm_up
from service.serving.explaining import ExplainedVersion, ExplanationOrder, LoadReport, Networks
from service.serving.global_wording import global_document
from service.serving.gradients import Gradients
from service.serving.memory import COMPILED_BYTES, file_bytes, give_back_freed, heap_growth
from service.serving.prices import LearnedPrice, MeteredEngine
from service.settings import read_settings

logger = logging.getLogger("vitrine.compute")

RANKS = {
    "predict": Rank.PREDICTION,
    "job": Rank.JOB,
    "dataset": Rank.JOB,
    "summary": Rank.JOB,
    "shadow": Rank.JOB,
}
"""Of the kinds of orders; what is not here is someone's who waits, an explanation or a picture."""


class Version(Protocol):
    """A version that is ready for orders."""

    engine: Engine
    explained: ExplainedVersion
    report: LoadReport


class LoadedVersion:
    """A version in this process: its engine, its Keras model and, where it has any, a gradient of each output."""

    def __init__(self, artifact: Artifact, courtesy: Courtesy, rules: EngineRules) -> None:
        signature = artifact.signature
        model = artifact.load_keras()
        self.engine: Engine
        known_bytes = kept_bytes(artifact)
        if artifact.onnx_path and rules.engine != "tensorflow":
            load_library()
            with heap_growth(file_bytes(artifact.directory, ONNX)) as growth:
                self.engine = OnnxEngine(artifact.onnx_path, signature, threads=rules.cores, keep_memory=True)
                price = LearnedPrice.of(warm_up(self.engine, signature))
            known_bytes += growth.measured
        else:
            # Not measured: the first call of a process takes what TensorFlow itself needs.
            self.engine = KerasEngine(model, signature)
            price = LearnedPrice.of(warm_up(self.engine, signature))
        models = {output: target_model(model, signature, output) for output in signature.outputs}
        gradients = Gradients(artifact, models, courtesy, rules.cores) if signature.is_continuous else None
        self.explained = ExplainedVersion(
            artifact,
            PoliteEngine(MeteredEngine(self.engine, price), courtesy),
            price,
            Networks(
                gradients or _refused,
                models.__getitem__,
                lru_cache(partial(feature_maps, models)),
                gradients.price if gradients else price,
            ),
        )
        if gradients is None:
            self.report = LoadReport(compute_device(), {}, known_bytes)
        else:
            self.report = LoadReport(gradients.device, gradients.slice_rows, known_bytes)


def kept_bytes(artifact: Artifact) -> int:
    """What is kept of a version beside its engine: weights as its files have them, and what TensorFlow compiled."""
    gradients = [name for name in artifact.hashes if name.startswith("gradient-")]
    return file_bytes(artifact.directory, KERAS, BACKGROUND, *gradients) + COMPILED_BYTES


def _refused(output: str, engine: str | None) -> Gradient:
    """Methods that take gradients are refused by the kind of the model, long before: this says so should one not be."""
    raise NotDifferentiable(
        f"of its {output} nothing is known but values ({engine or 'no engine'})",
        "Use a method that takes no gradients.",
    )


def feature_maps(models: dict[str, Any], output: str, layer: str | None) -> FeatureMaps:
    """The feature maps of a layer of the network behind an output: compiled when they are first asked for."""
    return KerasFeatureMaps(models[output], layer)


Order = tuple[int, str, dict[str, Any]]


class ComputeProcess:
    """Takes orders `(number, kind, payload)`; for each sends `(number, "begun", None)` and then
    `(number, "done", result)` or `(number, "failed", (type, message, attributes))`.

    The messages `unload`, `drop` (an order whose client is gone) and `ping` need no thread of their own.

    Args:
        load: makes a version ready for the kinds of orders that the process takes.
    """

    def __init__(self, connection: Connection, load: Callable[[Artifact, Courtesy], Version]) -> None:
        self._connection, self._load_version = connection, load
        self._sending = threading.Lock()
        self._versions: dict[str, Future[Version]] = {}
        self._courtesy = Courtesy()
        self._kinds: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "predict": self._predict,
            "shadow": self._predict,
            "explain": self._explain,
            "job": self._explain_for_job,
            "dataset": self._dataset,
            "summary": self._summary,
            "table": self._table,
            **{kind: partial(self._draw, kind) for kind in PICTURE_KINDS},
        }
        self._queues: dict[str, queue.SimpleQueue[Order]] = {}

    def start(self, thread: str, kinds: list[str]) -> None:
        """Starts a thread that works on some kinds of orders. It is as nice as the thread that calls this."""
        orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._queues |= dict.fromkeys(kinds, orders)
        threading.Thread(target=self._work, args=(orders,), name=thread, daemon=True).start()

    def run(self) -> None:
        """Hands orders to their threads until the other side closes."""
        self._send(0, "ready", None)
        while True:
            try:
                number, kind, payload = self._connection.recv()
            except (EOFError, OSError):
                return
            if kind == "unload":
                self._unload(payload["key"])
            elif kind == "drop":
                self._courtesy.drop(payload["number"])
            elif kind == "ping":
                self._send(0, "pong", None)
            else:
                self._courtesy.arrived(number, RANKS.get(kind, Rank.EXPLANATION))
                if "key" in payload:
                    # An order may come before the one that loads its version; it waits.
                    self._versions.setdefault(payload["key"], Future())
                self._queues[kind].put((number, kind, payload))

    def _send(self, number: int, status: str, result: Any) -> None:
        with self._sending:
            self._connection.send((number, status, result))

    def _work(self, orders: queue.SimpleQueue[Order]) -> None:
        while True:
            number, kind, payload = orders.get()
            version = self._versions.get(payload.get("key", ""))
            if kind != "load" and version is not None and not version.done():
                # Still loading: take it up again then, and let others pass.
                self._courtesy.deferred(number)
                version.add_done_callback(lambda _, order=(number, kind, payload): orders.put(order))
                continue
            if not self._courtesy.is_dropped(number):
                self._send(number, "begun", None)
                with log_context(**payload.pop("context", {})):
                    try:
                        with self._courtesy.working_on(number, RANKS.get(kind, Rank.EXPLANATION)):
                            answer = ("done", self._kinds[kind](**payload))
                    except OrderDropped:
                        logger.info("order %d was dropped while at work", number)
                        answer = None
                    except Exception as error:
                        # Whatever a model raises belongs to the request that met it, not to this process.
                        logger.info("%s failed", kind, exc_info=error)
                        answer = ("failed", _portable(error))
                if answer is not None:
                    self._send(number, *answer)
            self._courtesy.left(number)
            # What this order held is freed now, not when the next one comes.
            answer = payload = version = None

    def _load(self, key: str, directory: str) -> LoadReport:
        future = self._versions.get(key)
        if future is None:
            raise OrderDropped  # given up before its turn came: nobody would unload it again
        if future.done() and future.exception() is not None:
            future = self._versions[key] = Future()
        if future.done():
            return future.result().report
        started = perf_counter()
        try:
            version = self._load_version(open_artifact(Path(directory)), self._courtesy)
        except BaseException as error:
            future.set_exception(error)
            raise
        logger.info("loaded %s in %.1f s", key, perf_counter() - started)
        future.set_result(version)
        return version.report

    def _unload(self, key: str) -> None:
        self._versions.pop(key, None)
        # Keras models are full of cycles: without this a large one stays until the collector comes by.
        gc.collect()
        give_back_freed()

    def _predict(self, key: str, rows: ModelInput, output: str) -> np.ndarray:
        return self._versions[key].result().engine.evaluate(rows, output)

    def _explain(self, key: str, rows: ModelInput, order: ExplanationOrder) -> list[Estimate]:
        return self._versions[key].result().explained.explain(rows, order)

    def _explain_for_job(self, key: str, rows: ModelInput, order: ExplanationOrder) -> list[Estimate]:
        """Of a job, nobody waits for the answer: its deadline is on the work alone."""
        return self._versions[key].result().explained.explain(rows, order, paused_ms=self._courtesy.waited_ms)

    def _dataset(self, directory: str, part: Part, max_rows: int, seed: int, folder: DataFolder) -> ModelInput:
        from models.parts import rows_of_part

        return rows_of_part(open_artifact(Path(directory)), part, max_rows=max_rows, seed=seed, data=folder)

    def _summary(self, **summary: Any) -> dict[str, Any]:
        return global_document(**summary)

    def _table(self, **table: Any) -> bytes:
        return parquet_table(**table)

    def _draw(self, kind: PictureKind, **picture: Any) -> bytes:
        from explain.pictures.draw import draw

        return draw(kind, **picture)


def _portable(error: Exception) -> tuple[type[Exception], str, dict[str, Any]]:
    """An error as it can be sent: its class must exist in the API process, which imports no TensorFlow."""
    if type(error).__module__.partition(".")[0] in ("explain", "models", "service"):
        return type(error), str(error), vars(error)
    failed = ComputeFailed(type(error).__name__, without_folders(str(error)))
    return type(failed), str(failed), vars(failed)


def main() -> None:
    """Runs until the API process closes the socket or ends."""
    hold_lifeline()
    settings = read_settings(os.environ)
    configure_logging("compute", log_format=settings.log_format, log_level=settings.log_level)
    limit_tensorflow(settings.cores_in_use)
    process = ComputeProcess(Connection(int(sys.argv[1])), partial(LoadedVersion, rules=rules_of(settings)))
    process.start("predict", ["predict"])
    # On Linux niceness belongs to a thread. This one and those it starts from here, TensorFlow's too, go behind live
    # predictions, whichever process computes them.
    os.nice(10)
    sys.setswitchinterval(0.001)  # a prediction must not wait 5 ms for the thread that explains
    import_keras()  # so that the first load need not wait for it
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    # What exists now stays: collecting garbage after an unload need not look through all of TensorFlow (0.2 s).
    gc.collect()
    gc.freeze()
    process.start("load", ["load"])
    process.start("explain", ["explain", *PICTURE_KINDS, "table"])
    process.start("job", ["job", "dataset", "summary", "shadow"])
    logger.info("ready, TensorFlow %s", tf.__version__)
    process.run()
    os._exit(0)  # TensorFlow's threads need not be waited for


if __name__ == "__main__":
    main()
