"""ModelStreamInfer: a stream of requests, answered by a stream of answers in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope

from service.draining import Drain
from service.entrance import RETRY_AFTER_SECONDS
from service.problems import draining_problem, in_one_string, known_error, problem_document, problem_response
from service.rpc.calls import Call
from service.rpc.messages import message_class, parsed

MOST_AT_ONCE = 64
"""Requests of one stream that are answered beside each other; more wait with their client."""
_FINAL_ASKED, _FINAL = "triton_enable_empty_final_response", "triton_final_response"
_Request, _Answer = message_class("ModelInferRequest"), message_class("ModelStreamInferResponse")


class StreamedInference:
    """Answers streams. What is wrong with one request is said in its place, and the stream goes on.

    Args:
        infer: answers a ModelInferRequest.
    """

    def __init__(self, infer: Callable[[Any, Scope, Receive], Awaitable[Any]], drain: Drain) -> None:
        self._infer, self._drain = infer, drain
        self._readers: set[asyncio.Task[None]] = set()
        drain.when_closing(self._read_no_more)

    def _read_no_more(self) -> None:
        for reader in self._readers:
            reader.cancel()

    async def __call__(self, scope: Scope, receive: Receive) -> Response:
        call: Call = scope["extensions"]["grpc"]
        begun: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(MOST_AT_ONCE)
        reader = asyncio.create_task(self._read(call, begun, scope, receive))
        self._readers.add(reader)
        answer = None
        try:
            while (answer := await begun.get()) is not None:
                await call.write((await answer).SerializeToString())
        finally:
            self._readers.discard(reader)
            reader.cancel()
            while answer is not None:
                answer.cancel()
                answer = None if begun.empty() else begun.get_nowait()
        if self._drain.draining and reader.cancelled():
            # What was read has been answered; an end without an error would look as if nothing more could come.
            return stopping()
        return Response()

    async def _read(
        self, call: Call, begun: asyncio.Queue[asyncio.Task[Any] | None], scope: Scope, receive: Receive
    ) -> None:
        try:
            async for body in call.messages:
                task = asyncio.create_task(self._answered(body, {**scope, "state": {}}, receive))
                try:
                    await begun.put(task)
                except asyncio.CancelledError:
                    # Nobody has it yet who would end it with the stream.
                    task.cancel()
                    raise
        finally:
            await begun.put(None)

    async def _answered(self, body: bytes, scope: Scope, receive: Receive) -> Any:
        message = _Request()
        try:
            message = parsed(_Request, body)
            asked = _FINAL_ASKED in message.parameters and message.parameters.pop(_FINAL_ASKED).bool_param
            response = await self._infer(message, scope, receive)
        except Exception as error:
            known = known_error(error, scope["path"])
            about = {"model_name": message.model_name, "model_version": message.model_version, "id": message.id}
            return _Answer(error_message=in_one_string(problem_document(known)), infer_response=about)
        if asked:
            # Each request has one answer, which is its last.
            response.parameters[_FINAL].bool_param = True
        return _Answer(infer_response=response)


def stopping() -> Response:
    """The answer to what is asked of a server that takes nothing new."""
    return problem_response(draining_problem(), {"Retry-After": str(RETRY_AFTER_SECONDS)})
