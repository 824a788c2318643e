"""Calls of gRPC beside what answers them: deadlines, cancelling, draining, measures. A real server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from ports import free_port
from sqlalchemy.exc import OperationalError
from starlette.types import Message

from service.draining import Drain
from service.entrance import Entrance
from service.metrics import Metrics
from service.routes.v2.statistics import InferenceStatistics
from service.rpc.calls import Call, Calls
from service.rpc.messages import SERVICE, message_class
from service.rpc.methods import STREAM, RpcMethods
from service.rpc.server import AddressTaken, RpcServer
from service.serving.batcher import Batcher, Batching
from service.settings import Settings

INFER = f"/{SERVICE}/ModelInfer"
Request, Response = message_class("ModelInferRequest"), message_class("ModelInferResponse")
StreamResponse = message_class("ModelStreamInferResponse")
SCOPE = {"type": "http", "method": "POST", "path": INFER, "headers": []}
ONE_ROW = {"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}


class Rows:
    """In the place of `Inference`: rows wait in a real batcher for an engine that answers when it is let."""

    def __init__(self) -> None:
        self.engine_is_free = asyncio.Event()
        self.asked = 0
        self.batcher = Batcher("slow", None, self._aside, lanes=1, price=None, batching=Batching(max_waiting_rows=8))

    async def _aside(self, rows: Any, _output: str) -> np.ndarray:
        await self.engine_is_free.wait()
        return rows

    def meter(self, _scope: Any) -> None: ...

    async def infer(
        self, request: Any, _scope: Any, _receive: Any, _meter: Any, _write: Any, model: str, _version: Any
    ) -> Any:
        self.asked += 1
        if model == "broken":
            raise ZeroDivisionError
        if model == "away":
            raise OperationalError("SELECT", {}, Exception("database is locked"))
        rows = await self.batcher.evaluate(np.ones((len(request.inputs), 1)), "output")
        return Response(model_name=model, id=request.id or "", model_version=str(len(rows)))


@dataclass
class Served:
    channel: grpc.aio.Channel
    rows: Rows
    drain: Drain
    metrics: Metrics
    server: RpcServer
    port: int

    def infer(self, message: Any, **options: Any) -> Any:
        ask = self.channel.unary_unary(
            INFER, request_serializer=Request.SerializeToString, response_deserializer=Response.FromString
        )
        return ask(message, **options)

    def in_flight(self) -> float:
        return sum(sample.value for family in self.metrics.in_flight.collect() for sample in family.samples)

    def statuses(self) -> dict[str, float]:
        """Calls by their status."""
        counted: dict[str, float] = {}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == "vitrine_requests_total":
                    counted[sample.labels["status"]] = counted.get(sample.labels["status"], 0) + sample.value
        return counted


def served(
    test: Callable[[Served], Awaitable[None]], tmp_path: Path, *, drain: Drain | None = None, **settings: Any
) -> None:
    """Runs a test beside a server."""

    async def run() -> None:
        async with _serving(Settings(home=tmp_path, **settings), drain or Drain(grace_seconds=0, stop_seconds=5)) as s:
            await asyncio.wait_for(test(s), 60)

    asyncio.run(run())


@asynccontextmanager
async def _serving(settings: Settings, drain: Drain) -> AsyncIterator[Served]:
    rows, metrics, port = Rows(), Metrics(), free_port()
    methods = _methods(rows, drain, settings)
    entrance = Entrance(methods, drain, metrics, body_seconds=30)
    server = RpcServer(Calls(entrance, methods.unary, frozenset({STREAM})), drain, settings, port)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(channel, rows, drain, metrics, server, port)
    finally:
        await server.stop()


def _methods(rows: Rows, drain: Drain, settings: Settings) -> RpcMethods:
    stubs: dict[str, Any] = {"pool": None, "infer": rows, "explain": None, "statistics": InferenceStatistics()}
    return RpcMethods(**stubs, readiness_now=lambda: {"ready": not drain.draining}, drain=drain, settings=settings)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def failure_of(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def test_a_deadline_and_a_client_that_is_gone_free_their_places(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        first = served.infer(Request(model_name="m", inputs=[ONE_ROW]))
        first_task = asyncio.ensure_future(_answer(first))
        await until(lambda: served.in_flight())
        assert served.metrics.in_flight.is_one()
        waiting = served.infer(Request(model_name="m", inputs=[ONE_ROW] * 3))
        late = served.infer(Request(model_name="m", inputs=[ONE_ROW] * 5), timeout=3)
        tasks = [asyncio.ensure_future(_answer(call)) for call in (waiting, late)]
        await until(lambda: served.rows.batcher.waiting_rows == 8)

        full = await failure_of(served.infer(Request(model_name="m", inputs=[ONE_ROW])))
        waiting.cancel()
        await until(lambda: served.rows.batcher.waiting_rows <= 5)
        await until(lambda: served.rows.batcher.waiting_rows == 0)
        served.rows.engine_is_free.set()

        assert full.code() is grpc.StatusCode.UNAVAILABLE
        assert "8 rows are waiting" in (full.details() or "")
        assert dict(full.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "1000"
        assert isinstance(await tasks[0], asyncio.CancelledError)
        assert (await tasks[1]).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await first_task).model_version == "1"
        await until(lambda: not served.in_flight())
        # The client's clock for the deadline began first: its cancelling may be here before the server's own.
        assert served.statuses() in ({"200": 1, "499": 1, "503": 1, "504": 1}, {"200": 1, "499": 2, "503": 1})

    served(test, tmp_path)


@pytest.mark.parametrize(
    ("allowed", "left", "status"),
    [(0.5, 0.0, 504), (0.5, -0.1, 504), (0.5, 0.1, 499), (None, None, 499)],
    ids=["as it passes", "after it", "before it", "none"],
)
def test_a_cancelled_call_is_out_of_time_where_its_deadline_has_passed(
    tmp_path: Path, allowed: float | None, left: float | None, status: int
) -> None:
    async def test() -> None:
        rows, statuses = Rows(), list[int]()

        async def receive() -> Message:
            return {"type": "http.request", "body": Request(model_name="m", inputs=[ONE_ROW]).SerializeToString()}

        async def send(message: Message) -> None:
            statuses.append(message.get("status", 0))

        methods = _methods(rows, Drain(grace_seconds=0, stop_seconds=5), Settings(home=tmp_path))
        call = Call(allowed, lambda: left, _nobody(), send)
        answering = asyncio.ensure_future(methods({**SCOPE, "extensions": {"grpc": call}}, receive, send))
        await until(lambda: rows.asked)
        answering.cancel()
        await answering
        assert statuses[0] == status

    asyncio.run(test())


async def _nobody() -> AsyncIterator[bytes]:
    return
    yield b""


async def _answer(call: Any) -> Any:
    try:
        return await call
    except (asyncio.CancelledError, grpc.aio.AioRpcError) as error:
        return error


def test_an_unexpected_error_tells_its_request_and_no_more(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        metadata = (("x-request-id", "mine"),)
        error = await failure_of(served.infer(Request(model_name="broken", inputs=[ONE_ROW]), metadata=metadata))

        assert error.code() is grpc.StatusCode.INTERNAL
        assert "The server's log has the details under mine" in (error.details() or "")
        assert "ZeroDivision" not in (error.details() or "")
        assert dict(error.trailing_metadata() or ())["x-request-id"] == "mine"
        assert served.statuses() == {"500": 1}

    served(test, tmp_path)


def test_draining_answers_what_is_in_flight_and_takes_nothing_new(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        ready = served.channel.unary_unary(f"/{SERVICE}/ServerReady")
        assert await ready(b"") == b"\x08\x01"
        unary = asyncio.ensure_future(_answer(served.infer(Request(model_name="m", inputs=[ONE_ROW]))))
        stream = served.channel.stream_stream(STREAM, response_deserializer=StreamResponse.FromString)()
        for i in range(3):
            await stream.write(Request(model_name="m", id=str(i), inputs=[ONE_ROW]).SerializeToString())
        await until(lambda: served.rows.batcher.waiting_rows == 3)

        served.drain.begin(with_grace=True, close=lambda: None)
        await until(lambda: served.drain.draining)
        while_in_grace = await ready(b"")
        await until(lambda: served.drain.closing)
        refused = await failure_of(served.infer(Request(model_name="m", inputs=[ONE_ROW])))
        served.rows.engine_is_free.set()
        answers = [await stream.read() for _ in range(3)]

        assert while_in_grace == b""
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert (await unary).model_version == "1"
        assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
        assert (await failure_of(stream.read())).details() == (
            "The server is stopping, and this request did not finish in time. Send it again."
        )
        await served.server.stop()

    served(test, tmp_path, drain=Drain(grace_seconds=1, stop_seconds=30))


def test_what_does_not_finish_while_draining_is_told_so(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        unary = asyncio.ensure_future(_answer(served.infer(Request(model_name="m", inputs=[ONE_ROW]))))
        await until(lambda: served.in_flight())

        served.drain.begin(with_grace=False, close=lambda: None)
        error = await unary
        await served.server.stop()

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() == "The server is stopping, and this request did not finish in time. Send it again."
        assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "5000"

    served(test, tmp_path, drain=Drain(grace_seconds=0, stop_seconds=0.2))


def test_answers_of_a_stream_come_in_order_and_errors_in_their_place(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        served.rows.engine_is_free.set()
        stream = served.channel.stream_stream(STREAM, response_deserializer=StreamResponse.FromString)()
        sent = [Request(model_name="m", id=str(i), inputs=[ONE_ROW] * (1 + i % 3)) for i in range(100)]
        sent[1].ClearField("inputs")
        sent[4].model_name = "away"
        sent[2].parameters["triton_enable_empty_final_response"].bool_param = True

        async def send() -> None:
            for message in sent:
                await stream.write(message.SerializeToString())
            await stream.write(b"\xff\xff")
            await stream.done_writing()

        sending = asyncio.ensure_future(send())
        answers = [await stream.read() for _ in range(101)]
        end = await stream.read()
        await sending

        assert end is grpc.aio.EOF
        assert [answer.infer_response.id for answer in answers[:100]] == [str(i) for i in range(100)]
        said = {i: answer.error_message for i, answer in enumerate(answers) if answer.error_message}
        assert said.keys() == {1, 4, 100}
        assert "#/inputs: expected a list of at least one tensor" in said[1]
        assert "no inference.ModelInferRequest" in said[100]
        assert "The registry's database cannot be reached" in said[4]
        assert answers[2].infer_response.parameters["triton_final_response"].bool_param
        assert not answers[3].infer_response.parameters
        await until(lambda: served.statuses() == {"200": 1})

    served(test, tmp_path)


def test_a_client_that_leaves_its_stream_frees_its_places(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        stream = served.channel.stream_stream(STREAM)()
        for _ in range(4):
            await stream.write(Request(model_name="m", inputs=[ONE_ROW]).SerializeToString())
        await until(lambda: served.rows.batcher.waiting_rows == 3)
        assert (1, False) == (served.in_flight(), served.metrics.in_flight.is_one())  # its predictions are joined

        stream.cancel()

        await until(lambda: served.rows.batcher.waiting_rows == 0)
        await until(lambda: served.statuses() == {"499": 1})

    served(test, tmp_path)


def test_messages_are_as_large_as_bodies_may_be_however_they_are_packed(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        served.rows.engine_is_free.set()
        large = Request(model_name="m", raw_input_contents=[bytes(70_000)], inputs=[{**ONE_ROW, "contents": None}])

        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            error = await failure_of(served.infer(large, compression=compression))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in (error.details() or "")

    served(test, tmp_path, body_limit_bytes=65_536)


def test_a_taken_port_is_told_and_not_shared(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        calls = Calls(lambda *_: asyncio.sleep(0), frozenset(), frozenset())
        other = RpcServer(calls, served.drain, Settings(home=tmp_path), served.port)

        with pytest.raises(AddressTaken, match=r"gRPC cannot listen on 127\.0\.0\.1:\d+.*VITRINE_GRPC_PORT"):
            await other.start()

    served(test, tmp_path)
