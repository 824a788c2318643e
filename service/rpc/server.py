"""The gRPC server: where it listens, what a message may hold, and how it ends with the HTTP server."""

from __future__ import annotations

import asyncio
import logging

import grpc

from service.draining import SPARE_SECONDS, Drain
from service.rpc.calls import Calls
from service.settings import Settings

logger = logging.getLogger("vitrine.api")

LAST_REFUSALS_SECONDS = 0.25
"""For so long before it stops new calls are answered that it does: gRPC itself cancels what arrives in that moment, and
a client cannot tell that from being called off."""
KEEPALIVE_MS = 30_000
"""How often a connection without traffic is asked whether it is still there."""


class AddressTaken(Exception):
    """Nothing can listen there: mostly because another process does."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"gRPC cannot listen on {address}: another process has it, or it is no address of this machine. Choose "
            "another VITRINE_GRPC_PORT, or off."
        )


class RpcServer:
    """Of one event loop.

    Args:
        port: 0 for any that is free.
    """

    def __init__(self, calls: Calls, drain: Drain, settings: Settings, port: int) -> None:
        self._calls, self._drain, self._settings, self._port = calls, drain, settings, port
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises: AddressTaken."""
        self._server = grpc.aio.server(
            options=[
                # Else another server on the same port would get a part of the calls.
                ("grpc.so_reuseport", 0),
                # Of messages as they are once they are unpacked.
                ("grpc.max_receive_message_length", self._settings.body_limit_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.server_handshake_timeout_ms", self._settings.receive_timeout_ms),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ]
        )
        self._server.add_generic_rpc_handlers((self._calls,))
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        try:
            port = self._server.add_insecure_port(f"{address}:{self._port}")
        except RuntimeError:
            raise AddressTaken(f"{address}:{self._port}") from None
        await self._server.start()
        self._drain.when_closing(self._begin_to_stop)
        logger.info("gRPC on %s:%d", address, port)

    async def stop(self) -> None:
        """Ends when every call has ended: those in flight when draining closes have the time that it gives them."""
        self._begin_to_stop()
        assert self._stopping is not None
        await self._stopping

    def _begin_to_stop(self) -> None:
        if self._stopping is None and self._server is not None:
            # The drain ends the calls itself, before this time.
            seconds = self._settings.stop_seconds + SPARE_SECONDS if self._drain.draining else 0
            self._stopping = asyncio.create_task(self._stop(self._server, seconds))

    async def _stop(self, server: grpc.aio.Server, seconds: float) -> None:
        if seconds:
            await asyncio.sleep(LAST_REFUSALS_SECONDS)
        await server.stop(seconds)
