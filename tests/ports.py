"""Ports of the loopback for servers that tests start, of which no two processes of one run choose the same."""

from __future__ import annotations

import os
import socket
from itertools import count

# Below those that the system hands out by itself (from 32768 on), which any client may be given between the moment
# that a port is chosen and the moment that a server listens there, or is started again. Each process of a run has its
# own, more than it will ask for.
_OWN = 1500
_PORTS = count(20_000 + _OWN * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


def free_port() -> int:
    """A port that nobody listens on, and that this process has not been given before."""
    while True:
        port = next(_PORTS)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue  # taken by another
            return port
