"""`POST /predict`: from a request to its answer."""

from __future__ import annotations

from typing import Any

from service.identifiers import new_id
from service.metrics import RequestMeter
from service.schemas import PredictRequest
from service.serving.pool import ModelPool
from service.serving.shadow import Shadow
from service.serving.turns import decode_in_turns, in_turns


class Predictor:
    def __init__(self, pool: ModelPool, shadow: Shadow) -> None:
        self._pool, self._shadow = pool, shadow

    async def predict(self, request: PredictRequest, meter: RequestMeter) -> dict[str, Any]:
        """Predicts every row of a request.

        Raises:
            UnknownModel, UnknownVersion, InvalidRows, CorruptVersion, ComputeUnavailable: as their messages say.
        """
        served = await self._pool.resolve(request.model, str(request.version))
        meter.resolved(served.record.model, served.record.version, len(request.inputs))
        rows = await decode_in_turns(request.inputs, served.signature)
        meter.end("decode")
        outputs = await served.evaluate(rows, served.signature.outputs[0])
        meter.evaluated(served.engine_name, len(rows))
        self._shadow.copy(served, rows, outputs)
        return {
            "id": new_id(),
            "model": served.record.model,
            "version": served.record.version,
            "predictions": await in_turns(served.predictions, outputs),
        }
