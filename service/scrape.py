"""What is looked up when Prometheus scrapes: the state of serving, and figures of jobs from their stores."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.jobs.figures import DURATION_SECONDS, JobFigures
from service.records.prediction_recorder import PredictionRecorder
from service.serving.compute import ComputeClient
from service.serving.pool import ModelPool
from service.tallies import cumulative_buckets

logger = logging.getLogger("vitrine.metrics")

READINESS = ("starting", "ready", "degraded", "draining")
ORDER_KINDS = ("load", "predict", "explain", "job")
"""Kinds of orders that are shown with 0 when there are none."""


class ServingFigures(Collector):
    """The state of this API process and of its compute process."""

    def __init__(
        self, pool: ModelPool, compute: ComputeClient, readiness: Callable[[], str], registry: CollectorRegistry
    ) -> None:
        self._pool, self._compute, self._readiness = pool, compute, readiness
        self._first_ready_seconds: float | None = None
        registry.register(self)
        ProcessCollector(namespace="vitrine_compute", pid=lambda: compute.pid or "none", registry=registry)

    async def note_first_ready(self) -> None:
        """Waits until requests can be served, and notes when that was."""
        while self._readiness() == "starting":
            await asyncio.sleep(0.02)
        self._first_ready_seconds = seconds_since_start()

    def collect(self) -> Iterable[Metric]:
        pool, compute = self._pool, self._compute
        if self._first_ready_seconds is not None:
            text = "Time from the start of this process until it was first ready."
            yield GaugeMetricFamily("vitrine_first_ready_seconds", text, self._first_ready_seconds)
        readiness = self._readiness()
        family = GaugeMetricFamily("vitrine_readiness", "1 for what readiness says, 0 for the rest.", labels=["status"])
        for status in READINESS:
            family.add_metric([status], status == readiness)
        yield family

        loaded = GaugeMetricFamily("vitrine_loaded_versions", "Versions loaded in this process.", labels=["model"])
        champions = GaugeMetricFamily(
            "vitrine_champion_version", "Number of the version that is served by default.", labels=["model"]
        )
        taken = GaugeMetricFamily(
            "vitrine_versions_memory_bytes",
            "What loaded versions take, in this process and in its compute process.",
            labels=["model"],
        )
        for name in pool.models():
            loaded.add_metric([name], len(pool.loaded(name)))
            if champion := pool.champion(name):
                champions.add_metric([name], champion.record.version)
            taken.add_metric([name], pool.memory_bytes(name))
        yield loaded
        yield champions
        yield taken
        text = "What all loaded versions may take."
        yield GaugeMetricFamily("vitrine_versions_memory_limit_bytes", text, pool.residents.budget_bytes)
        loads = CounterMetricFamily("vitrine_version_loads_total", "Versions loaded.", labels=["model"])
        evictions = CounterMetricFamily(
            "vitrine_version_evictions_total", "Versions that made room for others.", labels=["model"]
        )
        for name in pool.models():
            loads.add_metric([name], pool.loads[name])
            evictions.add_metric([name], pool.residents.evictions[name])
        yield loads
        yield evictions
        text = "Time that loading versions took, with the wait for room."
        yield CounterMetricFamily("vitrine_version_load_seconds_total", text, pool.load_seconds)
        swaps = CounterMetricFamily(
            "vitrine_swaps_total", "Moved aliases whose new version took over traffic.", labels=["model", "alias"]
        )
        for (name, alias), count in pool.swaps.items():
            swaps.add_metric([name, alias], count)
        yield swaps
        refusals = CounterMetricFamily(
            "vitrine_versions_refused_total",
            "Versions that an alias moved to and that could not be loaded.",
            labels=["model"],
        )
        for name in pool.models():
            refusals.add_metric([name], pool.refusals[name])
        yield refusals

        yield GaugeMetricFamily("vitrine_compute_up", "1 while the compute process runs.", compute.pid is not None)
        yield CounterMetricFamily(
            "vitrine_compute_restarts_total", "Times the compute process was started anew.", compute.restarts
        )
        waiting = dict.fromkeys(ORDER_KINDS, 0) | Counter(compute.waiting())
        orders = GaugeMetricFamily(
            "vitrine_compute_orders", "Orders that the compute process has not answered yet.", labels=["kind"]
        )
        for kind, count in waiting.items():
            orders.add_metric([kind], count)
        yield orders


class RecordFigures(Collector):
    """How the recording of predictions goes."""

    def __init__(self, recorder: PredictionRecorder, registry: CollectorRegistry) -> None:
        self._recorder = recorder
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        records = CounterMetricFamily(
            "vitrine_prediction_records_total",
            "Predictions that were to be recorded, by what became of their records.",
            labels=["outcome"],
        )
        records.add_metric(["written"], self._recorder.written)
        records.add_metric(["dropped"], self._recorder.dropped)
        yield records
        text = "Records of predictions that wait to be written."
        yield GaugeMetricFamily("vitrine_prediction_records_waiting", text, self._recorder.waiting)


class StoreFigures(Collector):
    """Figures of jobs. A store that is away or slow costs a scrape one wait, and nothing of the other metrics."""

    MAX_AGE_SECONDS = 1.0
    MAX_WAIT_SECONDS = 1.0

    def __init__(self, read: Callable[[], JobFigures], registry: CollectorRegistry) -> None:
        self._read = read
        self._figures: JobFigures | None = None
        self._reading: asyncio.Task[JobFigures] | None = None
        self._read_at = -self.MAX_AGE_SECONDS
        registry.register(self)

    async def refresh(self) -> None:
        """Reads the stores in a thread, unless that was just done; waits a moment at most."""
        if monotonic() - self._read_at < self.MAX_AGE_SECONDS:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        reading = self._reading
        done, _ = await asyncio.wait({reading}, timeout=self.MAX_WAIT_SECONDS)
        was_there = self._figures is not None
        self._figures = None
        if not done:
            # It goes on; the next scrape waits for the same one, so that they do not pile up.
            logger.warning("the job stores take longer than a scrape waits")
            return
        self._reading, self._read_at = None, monotonic()
        try:
            self._figures = reading.result()
        except Exception as error:
            # Whatever is wrong with the stores, `vitrine_job_store_up` says so and the other metrics are served.
            if was_there:
                logger.warning("the job stores cannot be read for metrics: %s", error)

    def collect(self) -> Iterable[Metric]:
        figures = self._figures
        up = figures is not None
        yield GaugeMetricFamily("vitrine_job_store_up", "1 when figures of jobs could be read for this scrape.", up)
        if figures is None:
            return
        states = GaugeMetricFamily("vitrine_jobs", "Training jobs ever accepted, by state.", labels=["state"])
        for state, count in figures.states.items():
            states.add_metric([state], count)
        yield states
        durations = HistogramMetricFamily(
            "vitrine_job_duration_seconds", "Time from the start of a job to its end, of jobs that succeeded."
        )
        durations.add_metric([], cumulative_buckets(DURATION_SECONDS, figures.duration_counts), figures.duration_sum)
        yield durations
        yield GaugeMetricFamily(
            "vitrine_job_oldest_queued_seconds",
            "How long the job waits that has waited longest; 0 when none does.",
            figures.queued_seconds,
        )
        yield GaugeMetricFamily(
            "vitrine_job_longest_silence_seconds",
            "Time since the last progress of the running job that has been silent longest; 0 when none runs.",
            figures.silent_seconds,
        )
        peaks = GaugeMetricFamily(
            "vitrine_trainer_peak_memory_bytes", "Peak memory of the latest trainer of a model.", labels=["model"]
        )
        for model, peak in figures.peak_bytes.items():
            peaks.add_metric([model], peak)
        yield peaks


async def exposition(registry: CollectorRegistry) -> bytes:
    """All metrics as text. Other requests get their turn after each family: many series take milliseconds."""
    parts = []
    for family in registry.collect():
        parts.append(generate_latest(_One(family)))
        await asyncio.sleep(0)
    return b"".join(parts)


class _One(Collector):
    """One family alone."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        yield self._family


def seconds_since_start(proc: Path = Path("/proc")) -> float | None:
    """The age of this process, to a hundredth of a second; None where the system does not say."""
    try:
        uptime = float((proc / "uptime").read_text().split()[0])
        fields = (proc / "self" / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
