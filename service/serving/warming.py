"""How long a version that is loaded here waits for the compute process before it takes traffic."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from service.errors import ComputeUnavailable
from service.serving.compute import ComputeClient
from service.serving.served_model import ServedModel
from service.serving.sharing import retrieve

logger = logging.getLogger("vitrine.pool")


async def warm_in_compute(
    served: ServedModel, compute: ComputeClient, *, patience_seconds: float, clock: Callable[[], float]
) -> None:
    """Waits until the compute process has a version, as far as its predictions depend on it.

    Args:
        patience_seconds: how long one waits that predicts in this process.
        clock: monotonic seconds.

    Raises:
        Exception: what was wrong with the version when the compute process loaded it.
    """
    give_up_at = clock() + patience_seconds
    while True:
        loading = served.in_compute
        if loading.done() and not loading.cancelled():
            error = loading.exception()
            if error is None:
                return
            if not isinstance(error, ComputeUnavailable) or served.needs_compute:
                raise error
            return  # the process's fault, not the version's: predictions need not wait for it
        if not served.needs_compute and (compute.is_failing or clock() >= give_up_at):
            logger.warning("%s takes over before the compute process has it", served.key)
            return
        arrived = asyncio.wrap_future(loading)
        arrived.add_done_callback(retrieve)
        await asyncio.wait([arrived], timeout=0.25)
