"""What the statistics extension tells of a version: how many requests of V2 it has answered, and how long they took.

As Triton counts: a request that the response cache answered is a success and a hit, and no inference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time
from typing import Any

from models.registry import CHAMPION
from service.serving.cache import CacheUse
from service.serving.pool import ModelPool

STAGES = ("compute_input", "compute_infer", "compute_output")
"""Reading and checking tensors; the engine, with the wait for other rows; writing the answer."""


@dataclass(slots=True)
class _Tally:
    last_ms: int = 0
    rows: int = 0
    succeeded: int = 0
    succeeded_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    hits: int = 0
    hits_ns: int = 0
    misses: int = 0
    misses_ns: int = 0
    stages_ns: list[int] = field(default_factory=lambda: [0] * len(STAGES))


class InferenceStatistics:
    """Of this process since it started. Used from the event loop's thread alone."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, int], _Tally] = {}

    def succeeded(
        self, model: str, version: int, rows: int, stages_ns: tuple[int, int, int], use: CacheUse | None
    ) -> None:
        """Notes a request that was answered.

        Args:
            stages_ns: what each of `STAGES` took; what the cache took is a part of the second.
            use: what the cache did for it; None without one.
        """
        tally = self._tally(model, version)
        tally.last_ms = int(time() * 1000)
        tally.succeeded += 1
        tally.succeeded_ns += sum(stages_ns)
        if use is not None and not use.misses:
            tally.hits += 1
            tally.hits_ns += use.nanoseconds
            return
        tally.rows += rows
        for i, nanoseconds in enumerate(stages_ns):
            tally.stages_ns[i] += nanoseconds
        if use is not None:
            tally.misses += 1
            tally.misses_ns += use.nanoseconds
            tally.stages_ns[STAGES.index("compute_infer")] -= use.nanoseconds

    def failed(self, model: str, version: int, nanoseconds: int) -> None:
        tally = self._tally(model, version)
        tally.failed += 1
        tally.failed_ns += nanoseconds

    def of_all(self, pool: ModelPool) -> dict[str, Any]:
        """Of every loaded version."""
        found = [self.document(model, version) for model in sorted(pool.models()) for version in pool.loaded(model)]
        return {"model_stats": found}

    async def of_model(self, pool: ModelPool, model: str, version: str | None) -> dict[str, Any]:
        """Of a version, or of every loaded one of a model. Raises as `ModelPool.resolve`."""
        served = await pool.resolve(model, version or CHAMPION)
        numbers = pool.loaded(model) if version is None else [served.record.version]
        return {"model_stats": [self.document(model, number) for number in numbers]}

    def document(self, model: str, version: int) -> dict[str, Any]:
        """Times are in nanoseconds, but for the last inference: milliseconds since 1970."""
        tally = self._tallies.get((model, version), _Tally())
        computed = tally.succeeded - tally.hits
        return {
            "name": model,
            "version": str(version),
            "last_inference": tally.last_ms,
            "inference_count": tally.rows,
            "execution_count": computed,
            "inference_stats": {
                "success": {"count": tally.succeeded, "ns": tally.succeeded_ns},
                "fail": {"count": tally.failed, "ns": tally.failed_ns},
                # The wait for other rows is a part of the engine's stage: it is not measured by itself.
                "queue": {"count": tally.succeeded, "ns": 0},
                **{
                    stage: {"count": computed, "ns": nanoseconds}
                    for stage, nanoseconds in zip(STAGES, tally.stages_ns, strict=True)
                },
                "cache_hit": {"count": tally.hits, "ns": tally.hits_ns},
                "cache_miss": {"count": tally.misses, "ns": tally.misses_ns},
            },
            "response_stats": {},
            "batch_stats": [],
            "memory_usage": [],
        }

    def _tally(self, model: str, version: int) -> _Tally:
        return self._tallies.setdefault((model, version), _Tally())
