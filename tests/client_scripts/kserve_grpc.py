"""What kserve's gRPC client finds at a server with the models diabetes and digits."""

import asyncio
import json
import logging
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput

address = sys.argv[1]
patient = np.array([json.loads(sys.argv[2])], np.float32)
logging.disable(logging.CRITICAL)


def request(*, binary, model="diabetes", **options):
    if binary:
        tensor = InferInput("input", list(patient.shape), "FP32")
        tensor.set_data_from_numpy(patient, binary_data=True)
    else:
        tensor = InferInput("input", list(patient.shape), "FP32", data=patient.reshape(-1).tolist())
    return InferRequest(model_name=model, infer_inputs=[tensor], **options)


async def main():
    client = InferenceGRPCClient(address, retries=2, timeout=120)
    found = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model_ready": await client.is_model_ready("diabetes"),
        "unknown_ready": await client.is_model_ready("nobody"),
    }
    for name, asked in {
        "typed": request(binary=False, request_id="seven"),
        "raw": request(binary=True),
        "raw_output": request(binary=False, request_outputs=[RequestedOutput("value", {"binary_data": True})]),
        "all_raw": request(binary=False, parameters={"binary_data_output": True}),
        "typed_output": request(binary=True, parameters={"binary_data_output": False}),
    }.items():
        answer = await client.infer(asked)
        (output,) = answer.outputs
        found[name] = {
            "id": answer.id,
            "model": answer.model_name,
            "value": output.as_numpy().tolist(),
            "is_raw": output._raw_data is not None,
        }
    try:
        await client.infer(request(binary=False, model="nobody"))
    except grpc.RpcError as error:
        found["refused"] = [str(error.code()), error.details()]
    await client.close()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        loaded = await stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name="diabetes"))
        found["loaded"] = [loaded.model_name, loaded.isLoaded]
    print(json.dumps(found))


asyncio.run(main())
