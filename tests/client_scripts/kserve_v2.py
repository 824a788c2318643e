"""What kserve's client finds at a server with the models diabetes and digits."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

url = sys.argv[1]
patient = np.array([json.loads(sys.argv[2])], np.float32)


def request(binary, **options):
    tensor = InferInput("input", list(patient.shape), "FP32")
    tensor.set_data_from_numpy(patient, binary_data=binary)
    return InferRequest(model_name="diabetes", infer_inputs=[tensor], **options)


async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=120))
    found = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, "diabetes"),
        "unknown_ready": await client.is_model_ready(url, "nobody"),
    }
    for name, asked in {
        "in_json": request(False, request_id="seven"),
        "binary": request(True),
        "binary_output": request(True, request_outputs=[RequestedOutput("value", {"binary_data": True})]),
        "all_binary": request(True, parameters={"binary_data_output": True}),
    }.items():
        answer = await client.infer(url, asked, model_name="diabetes")
        (output,) = answer.outputs
        found[name] = {"id": answer.id, "model": answer.model_name, "value": output.as_numpy().tolist()}
    try:
        await client.infer(url, request(False), model_name="nobody")
    except httpx.HTTPStatusError as error:
        found["refused"] = str(error)
    await client.close()
    print(json.dumps(found))


asyncio.run(main())
