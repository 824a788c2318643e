"""What Prometheus scrapes from the API process, and the middleware that measures requests."""

from __future__ import annotations

from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "vitrine_requests_total",
            "Requests answered; models and versions that do not exist are counted under the label 'unknown'.",
            ("route", "method", "model", "version", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "vitrine_request_duration_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ("route", "method"),
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self.rows = Counter(
            "vitrine_rows_total", "Rows predicted or explained.", ("route", "model", "version"), registry=self.registry
        )
        self.evaluations = Counter(
            "vitrine_explanation_evaluations_total",
            "Rows put through the network for explanations.",
            ("model", "version", "method"),
            registry=self.registry,
        )
        self.stop_reasons = Counter(
            "vitrine_explanation_stops_total",
            "Explained rows by the reason their run stopped.",
            ("method", "stop_reason"),
            registry=self.registry,
        )
        self.loaded_versions = Gauge(
            "vitrine_loaded_versions", "Versions loaded in this process.", registry=self.registry
        )
        self.compute_restarts = Gauge(
            "vitrine_compute_restarts", "Times the compute process was started anew.", registry=self.registry
        )
        self.jobs_submitted = Counter("vitrine_jobs_submitted_total", "Training jobs accepted.", registry=self.registry)


class MeasuredRequests:
    """ASGI middleware: counts and times every request under its route's template."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), "500"

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unknown")
            served = scope.get("state", {}).get("served")
            model, version = served if served else ("", "")
            self._metrics.requests.labels(path, scope["method"], model, version, status).inc()
            self._metrics.request_seconds.labels(path, scope["method"]).observe(perf_counter() - started)
