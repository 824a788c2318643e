"""`POST /predict`: from a request to its answer."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive

from service.identifiers import new_id
from service.metrics import RequestMeter
from service.receiving import unless_gone
from service.schemas import PredictRequest
from service.serving.pool import ModelPool
from service.serving.shadow import Shadow
from service.serving.turns import decode_in_turns, in_turns


class Predictor:
    def __init__(self, pool: ModelPool, shadow: Shadow) -> None:
        self._pool, self._shadow = pool, shadow

    async def predict(self, request: PredictRequest, meter: RequestMeter, receive: Receive) -> dict[str, Any]:
        """Predicts every row of a request.

        Args:
            receive: what tells that the client is gone; its body must have been read.

        Raises:
            UnknownModel, UnknownVersion, InvalidRows, CorruptVersion, ComputeUnavailable, TooManyRowsWaiting: as their
                messages say.
        """
        served = await self._pool.resolve(request.model, str(request.version))
        meter.resolved(served.record.model, served.record.version, len(request.inputs))
        rows = await decode_in_turns(request.inputs, served.signature)
        meter.end("decode")
        work = served.evaluate(rows, served.signature.outputs[0])
        outputs = await (work if served.answers_at_once(len(rows)) else unless_gone(receive, work))
        meter.end("engine")
        self._shadow.copy(served, rows, outputs)
        return {
            "id": new_id(),
            "model": served.record.model,
            "version": served.record.version,
            "predictions": await in_turns(served.predictions, outputs),
        }
