"""Predictions: from a request to its answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.types import Receive

from service.identifiers import new_id
from service.metrics import RequestMeter
from service.receiving import unless_gone
from service.schemas import PredictRequest
from service.serving.pool import ModelPool
from service.serving.served_model import ServedModel
from service.serving.shadow import Shadow
from service.serving.turns import Inputs, decode_in_turns, in_turns


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
        outputs = await self.evaluate(served, request.inputs, meter, receive)
        return {
            "id": new_id(),
            "model": served.record.model,
            "version": served.record.version,
            "predictions": await in_turns(served.predictions, outputs),
        }

    async def evaluate(self, served: ServedModel, inputs: Inputs, meter: RequestMeter, receive: Receive) -> np.ndarray:
        """Outputs `(n_rows, n_targets)` of rows as a request has them, whatever its protocol.

        Raises:
            InvalidRows, ComputeUnavailable, TooManyRowsWaiting, ClientDisconnect: as their messages say.
        """
        rows = await decode_in_turns(inputs, served.signature)
        meter.end("decode")
        work = served.evaluate(rows, served.signature.outputs[0])
        outputs = await (work if served.answers_at_once(len(rows)) else unless_gone(receive, work))
        meter.end("engine")
        self._shadow.copy(served, rows, outputs)
        return outputs
