"""The floor of gRPC with a model: a handler of grpc.aio that runs ONNX Runtime on raw contents and answers such.

`python grpc_bare.py PORT`. It checks nothing: no ids, no metrics, no limits, no errors.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import numpy as np
import uvloop
from network import networks

from service.rpc.messages import SERVICE, message_class

served = networks()
Request, Response = message_class("ModelInferRequest"), message_class("ModelInferResponse")


async def infer(request: Any, context: Any) -> Any:
    del context
    rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
    outputs = served[request.model_name](rows)
    described = {"name": "output", "datatype": "FP32", "shape": outputs.shape}
    return Response(model_name=request.model_name, outputs=[described], raw_output_contents=[outputs.tobytes()])


async def main() -> None:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(infer, Request.FromString, Response.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
