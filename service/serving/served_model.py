"""A version that is ready to serve: its files checked, its engine warm."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from concurrent.futures import Executor, Future
from functools import cached_property
from time import perf_counter_ns
from typing import Any

import numpy as np

from models.artifact import BACKGROUND, ONNX, Artifact, open_version
from models.registry import VersionRecord
from models.rows import ModelInput
from models.signature import Signature
from service.serving.batcher import Batcher, Batching
from service.serving.cache import CacheUse, ResponseCache, identity_of, prediction_key
from service.serving.choosing import EngineRules, Opening, choose_engine
from service.serving.compute import ComputeClient
from service.serving.compute_orders import succeeded
from service.serving.engine import load_library
from service.serving.engine_report import EngineReport, report_of_files
from service.serving.explaining import ExplainedVersion, LoadReport
from service.serving.memory import expected_bytes, file_bytes, heap_growth
from service.serving.prices import LearnedPrice, MeteredEngine

_serials = itertools.count(1)


class ServedModel:
    """One loaded version.

    With an ONNX export that agrees, predictions run in this process; without, in the compute process. There the
    version is loaded in either case, since gradients need TensorFlow; `in_compute` says when that is done. It is
    unloaded there when the last reference to this object goes: requests that hold it are answered by it.
    """

    def __init__(
        self,
        record: VersionRecord,
        compute: ComputeClient,
        batching: Batching,
        cache: ResponseCache[Any] | None = None,
        rules: EngineRules | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.record, self._cache = record, cache
        rules = rules or EngineRules()
        self.artifact: Artifact = open_version(record)
        self.signature: Signature = self.artifact.signature
        # A version that is loaded again while its former load is still in use must not be unloaded with it.
        self.key = f"{record.model}/{record.version}#{next(_serials)}"
        self._compute = compute
        self._expected_bytes = expected_bytes(self.artifact.directory)
        # Which use of all versions was the last of this one: kept by whoever has it make room for others.
        self.last_use = 0
        load_library()
        with heap_growth(file_bytes(self.artifact.directory, ONNX, BACKGROUND)) as here:
            compute.load(self.key, self.artifact.directory)
            weakref.finalize(self, compute.unload, self.key)
            chosen = self._chosen = choose_engine(self.artifact, rules, opening)
            self._engine = chosen.engine if chosen else None
            self._price = LearnedPrice.of(chosen.warmth) if chosen else None
            self.engine: EngineReport = chosen.report if chosen else report_of_files(self.artifact, rules.engine)
            self._batcher = self._joining(batching)
            # Evaluated on the background now, not by the first explanation.
            _ = self.explained
        self._bytes_here = here.measured

    @property
    def memory_bytes(self) -> int:
        """What this version takes: as measured in this process, and in the compute process once it is loaded there.

        Before, and where nothing can be measured, what its files say that it takes at least.
        """
        # Looked up once: another thread replaces it when the process has to be started anew.
        loading = self.in_compute
        if not succeeded(loading):
            return max(self._bytes_here, self._expected_bytes)
        return self._bytes_here + loading.result().memory_bytes

    @property
    def in_compute(self) -> Future[LoadReport]:
        """Done when the compute process has loaded and compiled this version."""
        return self._compute.loading(self.key)

    @property
    def is_in_compute(self) -> bool:
        """Whether the compute process has this version now."""
        return succeeded(self.in_compute)

    @property
    def needs_compute(self) -> bool:
        """Whether predictions run in the compute process too."""
        return self._engine is None

    @cached_property
    def identity(self) -> bytes:
        """What tells this version from every other, whatever names and numbers it has."""
        return identity_of(self.artifact)

    @property
    def engine_name(self) -> str:
        return self.engine.name

    @cached_property
    def explained(self) -> ExplainedVersion | None:
        """For explanations cheap enough to run here; None where the compute process has the only engine."""
        if self._chosen is None or self._price is None:
            return None
        onnx = self._chosen.onnx
        price = self._price if onnx is self._engine else LearnedPrice.of(self._chosen.onnx_warmth)
        return ExplainedVersion(self.artifact, MeteredEngine(onnx, price), price)

    def _joining(self, batching: Batching) -> Batcher:
        """Where predictions run is decided by what was measured before there was any load."""
        compute, key, engine = self._compute, self.key, self._engine
        if engine is None or self._price is None:

            async def in_compute(rows: ModelInput, output: str) -> np.ndarray:
                return await asyncio.wrap_future(compute.submit("predict", key=key, rows=rows, output=output))

            return Batcher(self.engine_name, None, in_compute, lanes=1, price=None, batching=batching)

        async def in_thread(rows: ModelInput, output: str) -> np.ndarray:
            return await asyncio.to_thread(engine.evaluate, rows, output)

        return Batcher(
            self.engine_name,
            engine.evaluate,
            in_thread,
            lanes=self._chosen.lanes if self._chosen else 1,
            price=self._price.now,
            batching=batching,
        )

    @property
    def keeps_answers(self) -> bool:
        """Whether answers are kept, and given again."""
        return self._cache is not None

    def answers_at_once(self, n_rows: int) -> bool:
        """Whether a prediction of so many rows is done before anything else can happen in this process."""
        return self._batcher.answers_at_once(n_rows)

    async def evaluate(self, rows: ModelInput, output: str, use: CacheUse | None = None) -> np.ndarray:
        """Outputs `(n_rows, n_targets)`. A row's output does not depend on its neighbours.

        Where answers are kept, those of the same rows are given again.

        Args:
            use: is told what the cache did, where there is one.

        Raises:
            TooManyRowsWaiting: as its message says.
        """
        if self._cache is None:
            return await self._batcher.evaluate(rows, output)
        started, computing_ns = perf_counter_ns(), 0

        async def compute() -> np.ndarray:
            nonlocal computing_ns
            begun = perf_counter_ns()
            # A copy: it may be a part of what was computed for many requests.
            outputs = np.array(await self._batcher.evaluate(rows, output))
            outputs.flags.writeable = False
            computing_ns = perf_counter_ns() - begun
            return outputs

        key = prediction_key(self.identity, rows, output, f"{self.engine.name} in {self.engine.precision}")
        outputs, is_hit = await self._cache.answer("predict", key, compute)
        if use is not None:
            use.note(perf_counter_ns() - started - computing_ns, is_hit=is_hit)
        return outputs

    async def evaluate_anew(self, rows: ModelInput, output: str) -> np.ndarray:
        """As `evaluate`, for what is to be computed whether or not it was before."""
        return await self._batcher.evaluate(rows, output)

    async def evaluate_aside(self, rows: ModelInput, output: str, thread: Executor) -> np.ndarray:
        """As `evaluate`, for what nobody waits for: in a thread for it, or when the compute process has time."""
        if self._engine is None:
            order = self._compute.submit("shadow", key=self.key, rows=rows, output=output)
            return await asyncio.wrap_future(order)
        return await asyncio.get_running_loop().run_in_executor(thread, self._engine.evaluate, rows, output)

    def predictions(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """Outputs of the default kind, `(n_rows, n_targets)`, as the API gives them."""
        if self.signature.task == "regression":
            return [{"value": value} for value in outputs[:, 0].tolist()]
        labels = self.signature.labels
        return [
            {"label": labels[best], "probabilities": dict(zip(labels, row, strict=True))}
            for best, row in zip(outputs.argmax(axis=1).tolist(), outputs.tolist(), strict=True)
        ]
