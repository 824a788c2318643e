"""What the methods of the protocol do, and those of Triton's extensions to it: the same as the routes of V2, in its
messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import Fault, UnknownModel, UnknownVersion
from models.registry import CHAMPION
from models.rows import describe
from service.draining import Drain
from service.errors import InvalidRequest, OutOfTime, UnknownMethod, UnknownService
from service.problems import answer_error
from service.routes.v2.explain import TensorExplanations
from service.routes.v2.infer import Inference
from service.routes.v2.metadata import model_configuration, model_metadata, server_metadata
from service.routes.v2.repository import index, load, unload, why_not_ready
from service.routes.v2.statistics import InferenceStatistics
from service.routes.v2.tensors import as_parameters
from service.rpc.calls import Call
from service.rpc.messages import HEALTH, HEALTH_SERVICE, SERVICE, message_class, parsed
from service.rpc.streams import StreamedInference, stopping
from service.rpc.tensors import infer_response, parameters_of, set_parameters, tensor_request
from service.serving.pool import ModelPool
from service.settings import Settings

Answer = Callable[[Any, Scope, Receive], Awaitable[Any]]
STREAM = f"/{SERVICE}/ModelStreamInfer"
_SERVING, _NOT_SERVING = 1, 2


class RpcMethods:
    """An ASGI application of calls, which are found by their paths.

    Args:
        readiness_now: what `GET /health/ready` says.
    """

    def __init__(
        self,
        pool: ModelPool,
        infer: Inference,
        explain: TensorExplanations,
        statistics: InferenceStatistics,
        readiness_now: Callable[[], dict[str, Any]],
        drain: Drain,
        settings: Settings,
    ) -> None:
        self._pool, self._infer, self._explain, self._statistics = pool, infer, explain, statistics
        self._readiness_now, self._drain, self._settings = readiness_now, drain, settings
        self._stream = StreamedInference(self._model_infer, drain)
        answers: dict[str, Answer] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "ModelExplain": self._model_explain,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        requests = {"ModelExplain": "ModelInferRequest"}
        self._unary = {
            f"/{SERVICE}/{name}": (message_class(requests.get(name, f"{name}Request")), answer)
            for name, answer in answers.items()
        }
        self._unary[f"/{HEALTH_SERVICE}/Check"] = (message_class("HealthCheckRequest", HEALTH), self._check)

    @property
    def unary(self) -> frozenset[str]:
        """The paths of methods with one message and one answer."""
        return frozenset(self._unary)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._drain.closing:
                response = stopping()
            elif scope["path"] == STREAM:
                response = await self._stream(scope, receive)
            else:
                response = Response(await self._answer(scope, receive))
        except asyncio.CancelledError:
            if self._drain.out_of_time:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            response = await answer_error(Request(scope, receive), _why_cancelled(scope))
        except Exception as error:
            # Known errors are answered, by the table that serves every route; what is not known goes on from here.
            response = await answer_error(Request(scope, receive), error)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        path = scope["path"]
        if path not in self._unary:
            raise UnknownMethod(path, sorted((*self._unary, STREAM)))
        kind, answer = self._unary[path]
        message = parsed(kind, (await receive())["body"])
        return (await answer(message, scope, receive)).SerializeToString()

    async def _server_live(self, _message: Any, _scope: Scope, _receive: Receive) -> Any:
        return message_class("ServerLiveResponse")(live=True)

    async def _server_ready(self, _message: Any, _scope: Scope, _receive: Receive) -> Any:
        return message_class("ServerReadyResponse")(ready=self._readiness_now()["ready"])

    async def _check(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        if message.service not in ("", SERVICE):
            raise UnknownService(message.service, [SERVICE])
        status = _SERVING if self._readiness_now()["ready"] else _NOT_SERVING
        return message_class("HealthCheckResponse", HEALTH)(status=status)

    async def _model_ready(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        try:
            reason = why_not_ready(self._pool, message.name, message.version or CHAMPION)
        except (UnknownModel, UnknownVersion) as error:
            # As Triton answers, whose client gives this to who asks as it is.
            reason = str(error)
        return message_class("ModelReadyResponse")(ready=reason is None)

    async def _server_metadata(self, _message: Any, _scope: Scope, _receive: Receive) -> Any:
        document = server_metadata()
        document["extensions"].remove("binary_tensor_data")  # which is REST's
        return ParseDict(document, message_class("ServerMetadataResponse")())

    async def _model_metadata(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        served = await self._pool.resolve(message.name, message.version or CHAMPION)
        versions = [record.version for record in self._pool.models()[message.name].versions]
        document = model_metadata(served, versions)
        own, inputs, outputs = (document.pop(name) for name in ("parameters", "inputs", "outputs"))
        answer = ParseDict(document, message_class("ModelMetadataResponse")())
        for name, value in as_parameters(own).items():
            answer.properties[name] = value if isinstance(value, str) else orjson.dumps(value).decode()
        for described, tensors in ((answer.inputs, inputs), (answer.outputs, outputs)):
            for tensor in tensors:
                about = tensor.pop("parameters")
                set_parameters(described.add(**tensor).parameters, as_parameters(about))
        return answer

    async def _model_infer(self, message: Any, scope: Scope, receive: Receive) -> Any:
        meter = self._infer.meter(scope)
        model, version = message.model_name, message.model_version or None
        return await self._infer.infer(tensor_request(message), scope, receive, meter, infer_response, model, version)

    async def _model_explain(self, message: Any, scope: Scope, receive: Receive) -> Any:
        meter = self._explain.meter(scope)
        request = tensor_request(message)
        if "options" in request.parameters:
            request.parameters["options"] = _object_of(request.parameters["options"])
        model, version = message.model_name, message.model_version or None
        return await self._explain.explain(request, scope, receive, meter, infer_response, model, version)

    async def _model_config(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        served = await self._pool.resolve(message.name, message.version or CHAMPION)
        document = {"config": model_configuration(served, self._settings.max_rows)}
        return ParseDict(document, message_class("ModelConfigResponse")())

    async def _model_statistics(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        if message.name:
            document = await self._statistics.of_model(self._pool, message.name, message.version or None)
        else:
            document = self._statistics.of_all(self._pool)
        return ParseDict(document, message_class("ModelStatisticsResponse")())

    async def _repository_index(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        if message.repository_name:
            raise _there_is_one_repository(message.repository_name)
        document = {"models": index(self._pool, ready=message.ready)}
        return ParseDict(document, message_class("RepositoryIndexResponse")())

    async def _load(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        model = _model_of(message)
        await load(self._pool, model, parameters_of(message.parameters))
        return message_class("RepositoryModelLoadResponse")(model_name=model, isLoaded=True)

    async def _unload(self, message: Any, _scope: Scope, _receive: Receive) -> Any:
        model = _model_of(message)
        await unload(self._pool, model, parameters_of(message.parameters))
        return message_class("RepositoryModelUnloadResponse")(model_name=model, isUnloaded=True)


def _why_cancelled(scope: Scope) -> Exception:
    """Why gRPC has cancelled a call."""
    call: Call = scope["extensions"]["grpc"]
    left = call.seconds_left()
    if call.allowed_seconds is None or left is None or left > 0:
        return ClientDisconnect()
    return OutOfTime(round(call.allowed_seconds * 1000, 3))


def _model_of(message: Any) -> str:
    """The model of a request to load or unload: kserve's messages have it where Triton's have the repository."""
    if message.model_name and message.repository_name:
        raise _there_is_one_repository(message.repository_name)
    return message.model_name or message.repository_name


def _there_is_one_repository(name: str) -> InvalidRequest:
    return InvalidRequest([Fault("#/repository_name", "none: there is one repository", describe(name))])


def _object_of(text: Any) -> dict[str, Any]:
    """A parameter that is an object: no parameter of gRPC is one, so that it comes as its JSON."""
    try:
        document = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest([Fault("#/parameters/options", "an object as JSON, in a string_param", describe(text))])
    return document
