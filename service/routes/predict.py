"""`POST /predict`."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope

from models.errors import Fault
from service.errors import InvalidRequest
from service.formats.requests import FORMATS, read_request, rows_of_body
from service.metrics import Metrics
from service.records.prediction_recorder import PredictionRecorder
from service.routes.direct import Answer
from service.routes.documentation import request_body, responses
from service.schemas import PredictRequest
from service.serving.predictor import Predictor
from service.serving.traffic import Traffic
from service.settings import Settings

DIABETES_ROW = {
    "age": 59, "sex": 2, "bmi": 32.1, "bp": 101, "s1": 157, "s2": 93.2, "s3": 38, "s4": 4, "s5": 4.8598, "s6": 87,
}  # fmt: skip
EXAMPLE = {"model": "diabetes", "inputs": [DIABETES_ROW]}
ANSWER = {
    "id": "01KAJ5ZV3M9W8W4D9J7YQ2T6RB",
    "model": "diabetes",
    "version": 1,
    "predictions": [{"value": 206.1}],
}


class PredictAnswer:
    """What answers `POST /predict`: from a request's scope and what receives its body."""

    def __init__(
        self,
        predictor: Predictor,
        traffic: Traffic,
        records: PredictionRecorder,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._predictor, self._traffic, self._records = predictor, traffic, records
        self._metrics, self._settings = metrics, settings

    async def __call__(self, scope: Scope, receive: Receive) -> Response:
        meter = self._metrics.follow("predict", scope)
        body, sent = await read_request(scope, receive, PredictRequest, self._settings)
        check_row_count(body, self._settings.max_rows)
        meter.end("read")
        answer = await self._predictor.predict(self._traffic.directed(body, scope), meter, receive)
        encoded = orjson.dumps(answer)
        if self._settings.record_predictions > 0:
            note = (answer["id"], answer["model"], answer["version"], rows_of_body(body) if sent is None else sent)
            self._records.note(*note, encoded)
        meter.end("word")
        return Answer(encoded)


def predict_routes(answer: PredictAnswer) -> APIRouter:
    router = APIRouter(tags=["online"])

    @router.post(
        "/predict",
        summary="Predict rows",
        description="Where answers are kept (`VITRINE_CACHE_BYTES`), `Cache-Status` says whether this was computed.",
        openapi_extra=request_body(PredictRequest, {"diabetes": EXAMPLE}, FORMATS),
        responses=responses(400, 404, 413, 415, 422, 503, example=ANSWER),
    )
    async def predict(request: Request) -> Response:
        return await answer(request.scope, request.receive)

    return router


def check_row_count(body: PredictRequest, max_rows: int) -> None:
    if len(body.inputs) > max_rows:
        raise InvalidRequest([Fault("#/inputs", f"at most {max_rows} rows a request", f"{len(body.inputs)} rows")])
