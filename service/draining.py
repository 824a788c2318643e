"""How the API process ends: it says so, answers what it has accepted, and gives nothing up without a word.

SIGTERM begins a *grace*: readiness says 503 "draining", so that whatever spreads the load looks elsewhere, while every
request is still answered (and its connection then closed). After it nothing new is accepted, streams of events are
ended, and the requests in flight have a bounded time to finish; one that has not by then is answered 503. Ctrl-C
(SIGINT) does the same without the grace; a second Ctrl-C ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.receiving import protocol_within
from service.settings import Settings

logger = logging.getLogger("vitrine.api")

SPARE_SECONDS = 3.0
"""What the last answers, and ending the compute process, may take on top."""


class Drain:
    """Which requests are in flight, and how far the end has come.

    Attributes:
        draining: readiness is to say 503, and connections are to be closed after their answer.
        out_of_time: a request that is cancelled now was cancelled by this.
    """

    def __init__(self, *, grace_seconds: float, stop_seconds: float) -> None:
        self._grace_seconds, self._stop_seconds = grace_seconds, stop_seconds
        self._requests: dict[asyncio.Task[None], bool] = {}
        self._running: asyncio.Task[None] | None = None
        self._when_closing: list[Callable[[], None]] = []
        self.draining = False
        self.closing = False
        self.out_of_time = False

    def enter(self, request: asyncio.Task[None]) -> None:
        self._requests[request] = False

    def is_stream(self, request: asyncio.Task[None]) -> None:
        """Notes that a request is answered by a stream without an end of its own."""
        self._requests[request] = True
        if self.closing:
            request.cancel()

    def when_closing(self, call: Callable[[], None]) -> None:
        """Calls something when nothing new is to be accepted."""
        self._when_closing.append(call)

    def leave(self, request: asyncio.Task[None]) -> None:
        self._requests.pop(request, None)

    def begin(self, *, with_grace: bool, close: Callable[[], None]) -> None:
        """Starts to end, once; `close` is called when nothing new is to be accepted."""
        if self._running is None:
            self.draining = True
            self._running = asyncio.create_task(self._run(self._grace_seconds if with_grace else 0.0, close))

    async def _run(self, grace_seconds: float, close: Callable[[], None]) -> None:
        logger.info("draining: %d requests in flight, %g s of grace", len(self._requests), grace_seconds)
        await asyncio.sleep(grace_seconds)
        for call in (close, *self._when_closing):
            call()
        self.closing = True
        for request, is_stream in list(self._requests.items()):
            if is_stream:
                request.cancel()
        await asyncio.sleep(self._stop_seconds)
        self.out_of_time = True
        if self._requests:
            logger.warning("%d requests have not finished in time; they are answered 503", len(self._requests))
        for request in list(self._requests):
            request.cancel()


class DrainingServer(uvicorn.Server):
    """Uvicorn, ending as a `Drain` says. Ended by a signal, it exits with status 0."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self._interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        again = self._interrupted
        self._interrupted = self._interrupted or sig == signal.SIGINT
        if not self.started or (again and sig == signal.SIGINT):
            # Nothing is accepted yet, or someone has no patience left.
            self.should_exit = True
            self.force_exit = self.started
            return
        self._loop.call_soon_threadsafe(lambda: self._drain.begin(with_grace=sig == signal.SIGTERM, close=self._close))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def _close(self) -> None:
        self.should_exit = True


def serve_draining(app: ASGIApp, drain: Drain, settings: Settings) -> None:
    """Serves until a signal ends it."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol_within(settings.receive_timeout_ms / 1000),
        timeout_keep_alive=settings.keep_alive_seconds,
        access_log=False,
        log_config=None,
        # Nothing here asks who the client is or by which scheme it came.
        proxy_headers=False,
        # After our own bound, should something ignore it.
        timeout_graceful_shutdown=int(settings.stop_seconds + SPARE_SECONDS) + 1,
    )
    DrainingServer(config, drain).run()
