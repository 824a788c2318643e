"""What the API process counts as it works (see docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import numpy as np
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from explain.attribution import Estimate
from service.tallies import CounterTally, HistogramTally

_REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STAGE_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, *_REQUEST_SECONDS)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_EVALUATIONS = (100, 316, 1_000, 3_160, 10_000, 31_600, 100_000, 316_000, 1_000_000, 3_160_000, 10_000_000)
_RATIOS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

UNKNOWN = "unknown"
"""The one label of every model, version and path that does not exist: made-up names must not make series."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_GONE = 499
"""The status counted for a client that went away before its answer, as nginx counts it."""
GRPC_STREAM = "grpc.stream"
"""The extension of a scope that is a stream of gRPC: one request as far as HTTP goes, and many predictions."""


class Metrics:
    """The metrics of one process, in a registry of their own. Only the event loop's thread may change them."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = CounterTally(
            "vitrine_requests_total",
            "Requests answered. What does not exist is counted under the label 'unknown'.",
            ("route", "method", "model", "version", "status"),
            registry,
        )
        self.request_seconds = HistogramTally(
            "vitrine_request_duration_seconds",
            "Time from a request's head to the last byte of its answer.",
            ("route", "method"),
            _REQUEST_SECONDS,
            registry,
        )
        self.in_flight = RequestsInFlight(registry)
        self.stage_seconds = HistogramTally(
            "vitrine_stage_duration_seconds",
            "Time that a request spent in each part of its way.",
            ("operation", "stage"),
            _STAGE_SECONDS,
            registry,
        )
        self.rows = CounterTally(
            "vitrine_rows_total", "Rows predicted or explained.", ("operation", "model", "version"), registry
        )
        self.request_rows = HistogramTally(
            "vitrine_request_rows", "Rows in one request.", ("operation",), _ROWS, registry
        )
        self.engine_rows = HistogramTally(
            "vitrine_engine_call_rows", "Rows in one call of an engine that predicts.", ("engine",), _ROWS, registry
        )
        explained = ("model", "method")
        self.evaluations = HistogramTally(
            "vitrine_explanation_evaluations",
            "Rows put through the network to explain one row.",
            explained,
            _EVALUATIONS,
            registry,
        )
        self.half_widths = HistogramTally(
            "vitrine_explanation_half_width_ratio",
            "Largest 95 % half-width of an explained row, as a part of the explanation's scale S.",
            explained,
            _RATIOS,
            registry,
        )
        self.residuals = HistogramTally(
            "vitrine_explanation_residual_ratio",
            "Absolute efficiency residual of an explained row, as a part of the explanation's scale S.",
            explained,
            _RATIOS,
            registry,
        )
        self.stops = CounterTally(
            "vitrine_explanation_stops_total",
            "Explained rows by the reason why their estimation stopped.",
            (*explained, "reason"),
            registry,
        )
        self.jobs_submitted = CounterTally(
            "vitrine_jobs_submitted_total", "Training jobs accepted by this process.", (), registry
        )
        self.jobs_submitted.add((), 0)

    def follow(self, operation: str, scope: Scope) -> RequestMeter:
        """Measures the stages of a request that asks for predictions or explanations."""
        return RequestMeter(self, operation, scope)

    def note_answer(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts a request under its route's template; it is no longer in flight."""
        route, method = route_of(scope), scope["method"]
        self.in_flight.end(scope, route)
        if method not in _METHODS:
            method = UNKNOWN
        model, version = scope.get("state", {}).get("served", ("", ""))
        self.requests.add((route, method, model, version, str(status)))
        self.request_seconds.observe((route, method), seconds)

    def note_call(self, engine: str, n_rows: int) -> None:
        """Of an engine that predicts."""
        self.engine_rows.observe((engine,), n_rows)

    def note_explanations(self, model: str, estimates: Iterable[Estimate]) -> None:
        """Effort, precision and stop reason of each explained row."""
        for estimate in estimates:
            labels = (model, estimate.method)
            self.evaluations.observe(labels, estimate.evaluations)
            self.stops.add((*labels, estimate.stop_reason))
            measured = [(self.half_widths, estimate.half_widths.max(axis=0))]
            if estimate.estimand != "saliency":  # which adds up to nothing
                measured.append((self.residuals, np.abs(estimate.efficiency_residuals)))
            for tally, errors in measured:
                ratio = float((errors / estimate.scales).max())
                # An output that is the same everywhere has scale 0, and some half-widths are not known.
                if np.isfinite(ratio):
                    tally.observe(labels, ratio)


class RequestMeter:
    """Times the stages of one request, each from the end of the one before, and notes which version serves it."""

    __slots__ = ("_last", "_metrics", "_operation", "_state")

    def __init__(self, metrics: Metrics, operation: str, scope: Scope) -> None:
        self._metrics, self._operation, self._state = metrics, operation, scope.setdefault("state", {})
        self._state["served"] = (UNKNOWN, UNKNOWN)
        self._last = perf_counter()

    def end(self, stage: str) -> None:
        """Ends a stage; the next one begins."""
        now = perf_counter()
        self._metrics.stage_seconds.observe((self._operation, stage), now - self._last)
        self._last = now

    def resolved(self, model: str, version: int, rows: int) -> None:
        """Ends the stage in which the version was found: from here on the request is counted under its name."""
        served = self._state["served"] = (model, str(version))
        self._metrics.request_rows.observe((self._operation,), rows)
        self._metrics.rows.add((self._operation, *served), rows)
        self.end("resolve")


class RequestsInFlight(Collector):
    """Requests that are being answered, by route. The route is known only once the request is there."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._scopes: dict[int, Scope] = {}
        # A route that was seen once stays, with 0.
        self._routes: set[str] = set()
        registry.register(self)

    def begin(self, scope: Scope) -> None:
        self._scopes[id(scope)] = scope

    def is_one(self) -> bool:
        """Whether there is a single one, which is no stream."""
        if len(self._scopes) != 1:
            return False
        (scope,) = self._scopes.values()
        return GRPC_STREAM not in scope.get("extensions", ())

    def end(self, scope: Scope, route: str) -> None:
        del self._scopes[id(scope)]
        self._routes.add(route)

    def collect(self) -> Iterable[Metric]:
        now = [route_of(scope) for scope in self._scopes.values()]
        family = GaugeMetricFamily("vitrine_requests_in_flight", "Requests being answered.", labels=["route"])
        for route in sorted(self._routes.union(now)):
            family.add_metric([route], now.count(route))
        yield family


def route_of(scope: Scope) -> str:
    """The template of a request's route; one name for every path that there is no route for."""
    return getattr(scope.get("route"), "path", UNKNOWN)
