"""`POST /v2/models/{model}[/versions/{version}]/infer`, on the data plane of `/predict`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, TypeVar

import numpy as np
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope

from models.errors import Fault, pointer
from models.outputs import network_columns
from models.rows import ModelInput, describe
from models.signature import Signature
from service.bodies import read_bytes
from service.errors import InvalidRequest, OutOfTime
from service.identifiers import new_id
from service.metrics import Metrics, RequestMeter
from service.receiving import unless_gone
from service.records.prediction_recorder import PredictionRecorder
from service.routes.direct import Answer, DirectRoute
from service.routes.v2.matching import OUTPUT, arrange, decoded, default_output, output_behind, raw_input
from service.routes.v2.statistics import InferenceStatistics
from service.routes.v2.tensors import (
    BINARY,
    HEADER,
    MOST_FAULTS,
    AskedOutput,
    NamedArray,
    TensorRequest,
    parse_json,
    read_request,
    split_body,
    write_answer,
)
from service.serving.cache import CacheUse
from service.serving.pool import ModelPool
from service.serving.served_model import ServedModel
from service.serving.shadow import Shadow
from service.serving.traffic import Traffic
from service.settings import Settings

A = TypeVar("A")
WriteAnswer = Callable[[dict[str, Any], Sequence[tuple[NamedArray, bool]]], A]
"""Makes an answer of its members but for the outputs, and of the outputs, each with whether it is to be binary."""

PATHS = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
_UNUSED = {"priority": 0, "sequence_id": 0, "sequence_start": False, "sequence_end": False}
"""Parameters of Triton's schedulers that there is nothing to do for here, and the values that ask for nothing."""


@dataclass(frozen=True, slots=True)
class TensorAnswer:
    """Attributes: json_bytes: where the JSON of the body ends and raw tensors begin; None where it is all JSON."""

    body: bytes
    json_bytes: int | None

    def response(self) -> Response:
        if self.json_bytes is None:
            return Answer(self.body)
        return Answer(self.body, BINARY.encode(), [(HEADER, b"%d" % self.json_bytes)])


def tensor_answer(head: dict[str, Any], tensors: Sequence[tuple[NamedArray, bool]]) -> TensorAnswer:
    """The answer of REST."""
    return TensorAnswer(*write_answer(head, tensors))


class Inference:
    """Answers requests for inference: a scope, what receives its body, and whom it asks."""

    def __init__(
        self,
        pool: ModelPool,
        traffic: Traffic,
        shadow: Shadow,
        records: PredictionRecorder,
        metrics: Metrics,
        statistics: InferenceStatistics,
        settings: Settings,
    ) -> None:
        self._pool, self._traffic, self._shadow, self._records = pool, traffic, shadow, records
        self._metrics, self._statistics, self._settings = metrics, statistics, settings

    async def __call__(self, scope: Scope, receive: Receive, model: str, version: str | None = None) -> TensorAnswer:
        """Raises: NotReadable, BodyTooLarge, and what `infer` raises."""
        meter = self.meter(scope)
        request = await received(scope, receive, self._settings.body_limit_bytes, model)
        return await self.infer(request, scope, receive, meter, tensor_answer, model, version)

    def meter(self, scope: Scope) -> RequestMeter:
        return self._metrics.follow("predict", scope)

    async def infer(
        self,
        request: TensorRequest | memoryview,
        scope: Scope,
        receive: Receive,
        meter: RequestMeter,
        write: WriteAnswer[A],
        model: str,
        version: str | None,
    ) -> A:
        """The answer to a request that has been read, in whatever form.

        Args:
            request: or the bytes of its one input.
            write: the form of the answer.

        Raises:
            UnknownModel, UnknownVersion, InvalidRequest, InvalidRows, OutOfTime and what `ServedModel.evaluate` raises:
                as their messages say.
        """
        meter.end("read")
        served = await self._pool.resolve(model, version or self._traffic.alias(model, scope))
        record, started = served.record, perf_counter_ns()
        if isinstance(request, memoryview):
            request = TensorRequest(None, {}, (raw_input(request, served.signature),), None, binary=True)
        meter.resolved(record.model, record.version, rows_said(request, self._settings.max_rows))
        try:
            limit_ms = timeout_ms(request.parameters)
            work = self._answer(served, request, meter, receive, started, write)
            if limit_ms is None:
                return await work
            try:
                return await asyncio.wait_for(work, limit_ms / 1000)
            except TimeoutError:
                raise OutOfTime(limit_ms) from None
        except Exception:
            self._statistics.failed(record.model, record.version, perf_counter_ns() - started)
            raise

    async def _answer(
        self,
        served: ServedModel,
        request: TensorRequest,
        meter: RequestMeter,
        receive: Receive,
        started: int,
        write: WriteAnswer[A],
    ) -> A:
        record, signature = served.record, served.signature
        asked = request.outputs or (AskedOutput(default_output(signature).name, request.binary),)
        behind = _outputs_behind(asked, served)
        arranged = arrange(request.inputs, signature, self._settings.max_rows)
        rows = await decoded(arranged, signature)
        meter.end("decode")
        read = perf_counter_ns()
        use = CacheUse() if served.keeps_answers else None
        wanted = dict.fromkeys(behind)
        if self._settings.record_predictions > 0:
            # A record says what `/predict` answers, whatever was asked for here.
            wanted[signature.outputs[0]] = None
        arrays = {name: await self._evaluate(served, rows, name, receive, use) for name in wanted}
        meter.end("engine")
        computed = perf_counter_ns()
        prediction, recorded = new_id(), False
        if (outputs := arrays.get(signature.outputs[0])) is not None:
            self._shadow.copy(served, rows, outputs)
            if recorded := self._settings.record_predictions > 0:
                self._note(prediction, served, arranged if isinstance(arranged, list) else rows, outputs)
        head: dict[str, Any] = {
            "model_name": record.model,
            "model_version": str(record.version),
            "id": request.id or prediction,
        }
        if request.id and recorded:
            head["parameters"] = {"prediction": prediction}
        tensors = [
            (NamedArray(output.name, "FP32", _columns(output.name, arrays[name], signature)), output.binary)
            for output, name in zip(asked, behind, strict=True)
        ]
        answer = write(head, tensors)
        meter.end("word")
        stages = (read - started, computed - read, perf_counter_ns() - computed)
        self._statistics.succeeded(record.model, record.version, len(rows), stages, use)
        return answer

    def _note(self, prediction: str, served: ServedModel, rows: ModelInput | list[Any], outputs: np.ndarray) -> None:
        """Records a prediction as one of `/predict`: found, shown and explained later like any other."""
        record = served.record
        sent = orjson.dumps({"inputs": rows}) if isinstance(rows, list) else rows
        answer = {
            "id": prediction,
            "model": record.model,
            "version": record.version,
            "predictions": served.predictions(outputs),
        }
        self._records.note(prediction, record.model, record.version, sent, orjson.dumps(answer))

    async def _evaluate(
        self, served: ServedModel, rows: ModelInput, output: str, receive: Receive, use: CacheUse | None
    ) -> np.ndarray:
        work = served.evaluate(rows, output, use)
        return await (work if served.answers_at_once(len(rows)) else unless_gone(receive, work))


def _columns(output: str, array: np.ndarray, signature: Signature) -> np.ndarray:
    return network_columns(array, signature) if output == OUTPUT else array


async def received(scope: Scope, receive: Receive, limit_bytes: int, model: str) -> TensorRequest | memoryview:
    """The request in a body, or the bytes of its one input. Raises: NotReadable, BodyTooLarge, InvalidRequest."""
    text, raw = split_body(await read_bytes(scope, receive, limit_bytes), header_of(scope))
    return read_request(parse_json(text), raw, model) if text else raw


def header_of(scope: Scope) -> str | None:
    """The value of `Inference-Header-Content-Length`."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == HEADER), None)


def rows_said(request: TensorRequest, max_rows: int) -> int:
    """How many rows a request has by its first shape, whether or not they are there; 0 where it cannot be so many."""
    shape = request.inputs[0].shape
    return shape[0] if shape and shape[0] <= max_rows else 0


def timeout_ms(parameters: dict[str, Any]) -> float | None:
    """How long the request may take, by its parameters; the others are refused."""
    faults = []
    for name, value in parameters.items():
        if len(faults) == MOST_FAULTS:
            break
        if name == "timeout":
            if type(value) is not int or value < 0:
                faults.append(Fault("#/parameters/timeout", "a number of microseconds", describe(value)))
        elif name == "content_type":
            if value not in ("np", "pd", "str"):
                faults.append(Fault("#/parameters/content_type", "one of np, pd, str", describe(value)))
        elif name not in _UNUSED:
            faults.append(Fault(pointer("parameters", name), "no such parameter", describe(value)))
        elif value != _UNUSED[name]:
            expected = f"{_UNUSED[name]!s}: versions keep no state, and all requests are of one priority"
            faults.append(Fault(pointer("parameters", name), expected, describe(value)))
    if faults:
        raise InvalidRequest(faults)
    return parameters["timeout"] / 1000 if parameters.get("timeout") else None


def _outputs_behind(asked: tuple[AskedOutput, ...], served: ServedModel) -> list[str]:
    names, faults = [], []
    for place, output in enumerate(asked):
        name = output_behind(output.name, served.signature)
        if name is None:
            expected = f"one of {', '.join((*served.signature.outputs, OUTPUT))}"
            faults.append(Fault(pointer("outputs", place, "name"), expected, describe(output.name)))
        else:
            names.append(name)
    if faults:
        raise InvalidRequest(faults)
    return names


def direct_routes(infer: Inference) -> list[DirectRoute]:
    """Inference, answered without FastAPI's routing."""

    async def answer(scope: Scope, receive: Receive) -> Response:
        return (await infer(scope, receive, **scope["path_params"])).response()

    return [DirectRoute(path, answer) for path in PATHS]
